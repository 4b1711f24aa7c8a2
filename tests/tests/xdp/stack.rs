//! How much stack the programs use with all that they call, as the strictest kernel counts it: another one
//! than this machine's may refuse what loads here.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya_obj::{
    Object,
    generated::{
        BPF_ADD, BPF_ALU64, BPF_CALL, BPF_DW, BPF_IMM, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MOV,
        BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, BPF_ST, BPF_STX, BPF_X, bpf_insn,
    },
};
use ha_user::dataplane::object;

/// The kernel gives 512 bytes; these leave room for what another compiler spills.
const LIMIT: usize = 448;

/// To a multiple of this a function's stack is counted (Linux 6.1; newer ones take 16 where there is a JIT).
const STEP: usize = 32;

const FRAME_POINTER: u8 = 10;

/// A function of a program.
#[derive(Default)]
struct Function {
    /// Bytes of its own.
    stack: usize,
    /// Where those begin that it calls.
    calls: Vec<usize>,
}

/// The functions of a program by where they begin, and which of them the kernel itself calls: those have the
/// whole stack.
struct Functions {
    all: BTreeMap<usize, Function>,
    entries: BTreeSet<usize>,
}

impl Functions {
    fn new(instructions: &[bpf_insn]) -> Self {
        let mut all = BTreeMap::from([(0, Function::default())]);
        let mut entries = BTreeSet::from([0]);
        for (at, instruction) in instructions.iter().enumerate() {
            if is_call(instruction) {
                all.entry(target(at, instruction)).or_default();
            } else if is_callback(instruction) {
                all.entry(target(at, instruction)).or_default();
                entries.insert(target(at, instruction));
            }
        }
        for (at, instruction) in instructions.iter().enumerate() {
            let (_, function) = all.range_mut(..=at).next_back().unwrap();
            function.stack = function.stack.max(reach(&instructions[at..]));
            if is_call(instruction) {
                function.calls.push(target(at, instruction));
            }
        }
        Self { all, entries }
    }

    /// The functions that use most together, from the one at `start` on: what each counts for.
    fn worst(&self, start: usize) -> Vec<usize> {
        let function = &self.all[&start];
        let called = function.calls.iter().map(|call| self.worst(*call));
        let worst = called.max_by_key(|chain| chain.iter().sum::<usize>());
        let own = function.stack.max(1).next_multiple_of(STEP);
        [vec![own], worst.unwrap_or_default()].concat()
    }
}

fn code(class: u32, rest: u32) -> u8 {
    u8::try_from(class | rest).unwrap()
}

fn is_call(instruction: &bpf_insn) -> bool {
    instruction.code == code(BPF_JMP, BPF_CALL)
        && u32::from(instruction.src_reg()) == BPF_PSEUDO_CALL
}

fn is_callback(instruction: &bpf_insn) -> bool {
    instruction.code == code(BPF_LD, BPF_IMM | BPF_DW)
        && u32::from(instruction.src_reg()) == BPF_PSEUDO_FUNC
}

fn target(at: usize, instruction: &bpf_insn) -> usize {
    (at + 1).strict_add_signed(isize::try_from(instruction.imm).unwrap())
}

/// How far down the stack the first of these instructions reaches.
fn reach(instructions: &[bpf_insn]) -> usize {
    let first = instructions[0];
    let class = u32::from(first.code & 7);
    let offset = if class == BPF_LDX && first.src_reg() == FRAME_POINTER
        || matches!(class, BPF_ST | BPF_STX) && first.dst_reg() == FRAME_POINTER
    {
        i32::from(first.off)
    } else if first.code == code(BPF_ALU64, BPF_MOV | BPF_X) && first.src_reg() == FRAME_POINTER {
        let next = instructions[1];
        assert!(
            next.code == code(BPF_ALU64, BPF_ADD | BPF_K) && next.dst_reg() == first.dst_reg(),
            "an address on the stack is made in another way than this test knows"
        );
        next.imm
    } else {
        0
    };
    usize::try_from(-offset).unwrap()
}

#[test]
fn the_programs_leave_stack_for_older_kernels() {
    let mut object = Object::parse(object()).unwrap();
    // As the loader does it.
    let sections: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object.relocate_calls(&sections).unwrap();
    for (name, program) in &object.programs {
        let key = (program.section_index, program.address);
        let functions = Functions::new(&object.functions[&key].instructions);
        for entry in &functions.entries {
            let chain = functions.worst(*entry);
            let sum: usize = chain.iter().sum();
            println!("{name}, from instruction {entry} on: {sum} bytes {chain:?}");
            assert!(
                sum <= LIMIT,
                "{name}, from instruction {entry} on, uses {sum} bytes of stack: {chain:?}"
            );
        }
    }
    assert!(object.programs.contains_key("had_ingress"));
}
