//! Leases between two kernels: what one node's programs make of the other's echoes.

mod asks;
mod echoes;
mod node;
