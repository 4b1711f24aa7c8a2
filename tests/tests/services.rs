//! Checks of services that end, hang or misbehave, and what they do to the VIP and to the adverts.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ha_tests::{
    Node, VirtualRouter, eventually,
    node::PATIENCE,
    now, scenario,
    scene::{INTERVAL, INTERVAL_MS, Scene, VRID, WEB},
};
use serde_json::Value;

const A_WHILE: Duration = Duration::from_secs(3);
const API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// The first node's router, as it was, with checks.
fn with(scene: &Scene, lines: &str) -> VirtualRouter {
    let peer = scene.nodes[1].address();
    let router = scene.nodes[0].router().interval_ms(INTERVAL_MS);
    router.peers(&[peer]).had_lines(lines)
}

fn check(node: &Node, name: &str) -> Result<Value> {
    let report = node.hactl(&["checks"])?;
    let checks = report["checks"].as_array().into_iter().flatten();
    let found = checks.into_iter().find(|check| check["name"] == name);
    found.cloned().with_context(|| format!("{report}"))
}

fn wait_for(node: &Node, name: &str, state: &str) -> Result<()> {
    eventually(PATIENCE, &format!("{name} is {state}"), || {
        Ok(check(node, name).is_ok_and(|check| check["state"] == state))
    })
}

/// A process that ends with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // Dead or not: it is waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_is_killed_moves_the_vip_at_once() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let mut service = Service(Command::new("sleep").arg("1000").spawn()?);
        let file = scene.nodes[0].dir().join("service.pid");
        fs::write(&file, format!("{}\n", service.0.id()))?;
        let router = with(
            &scene,
            &format!(
                "track = [{{ check = \"service\" }}]\n[[check]]\nname = \"service\"\nkind = \"process\"\n\
                 pid_file = \"{}\"\nprocess = \"sleep\"\ninterval = \"10s\"",
                file.display()
            ),
        );
        scene.nodes[0].reload(&[router])?;
        wait_for(&scene.nodes[0], "service", "up")?;
        let from = now();
        service.0.kill()?;
        scene.wait_served_by(1)?;
        scene.one_after_the_other(from)?;
        let down = check(&scene.nodes[0], "service")?;
        let why = down["why"].as_str().unwrap_or_default();
        ensure!(why.contains("sleep ended (process "), "{down}");
        // The next probe would have come 10 s later.
        let gap = scene.prober.longest_gap(from, now())?;
        ensure!(gap.length() < INTERVAL.times(100), "{}", gap.length());
        Ok(())
    });
}

/// Answers as it is told, or accepts and says nothing.
struct Api {
    status: Arc<Mutex<&'static str>>,
    ended: Arc<AtomicBool>,
}

impl Api {
    fn start(node: &Node) -> Result<Self> {
        let listener = node.ns().enter(|| TcpListener::bind(API))??;
        listener.set_nonblocking(true)?;
        let status = Arc::new(Mutex::new("200 OK"));
        let ended = Arc::new(AtomicBool::new(false));
        let (says, ends) = (Arc::clone(&status), Arc::clone(&ended));
        std::thread::spawn(move || {
            let mut open: Vec<TcpStream> = Vec::new();
            while !ends.load(Ordering::SeqCst) {
                if let Ok((mut stream, _)) = listener.accept() {
                    let status = *says.lock().unwrap_or_else(PoisonError::into_inner);
                    // A client that went away is no concern of a server.
                    let _ = answer(&mut stream, status);
                    open.push(stream);
                    open.drain(..open.len().saturating_sub(8));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Ok(Self { status, ended })
    }

    fn say(&self, status: &'static str) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn answer(stream: &mut TcpStream, status: &str) -> Result<()> {
    if status.is_empty() {
        return Ok(());
    }
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    ensure!(stream.read(&mut [0; 4096])? > 0, "no request");
    stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    Ok(())
}

#[test]
fn an_http_service_that_is_broken_or_silent_moves_the_vip() {
    for (status, why) in [
        ("500 Internal Server Error", "answered 500"),
        ("", "no answer within"),
    ] {
        scenario(|lab| {
            let mut scene = Scene::new(lab, |router| router)?;
            let api = Api::start(&scene.nodes[0])?;
            let router = with(
                &scene,
                &format!(
                    "track = [{{ check = \"api\" }}]\n[[check]]\nname = \"api\"\nkind = \"http\"\n\
                     url = \"http://{API}/health\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\nfall = 2\n\
                     damping = \"0s\""
                ),
            );
            scene.nodes[0].reload(&[router])?;
            wait_for(&scene.nodes[0], "api", "up")?;
            scene.stays(0, Duration::from_secs(1))?;
            let from = now();
            api.say(status);
            scene.wait_served_by(1)?;
            let down = check(&scene.nodes[0], "api")?;
            ensure!(
                down["why"].as_str().unwrap_or_default().contains(why),
                "{down}"
            );
            let gap = scene.prober.longest_gap(from, now())?;
            ensure!(gap.length() < INTERVAL.times(100), "{}", gap.length());
            api.say("200 OK");
            wait_for(&scene.nodes[0], "api", "up")?;
            scene.nodes[0].wait_for(WEB, "backup")
        });
    }
}

fn script(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Processes of this user whose command line names something in a directory.
fn processes_of(dir: &Path) -> Result<usize> {
    let dir = dir.display().to_string();
    let lines = fs::read_dir("/proc")?
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(&dir));
    Ok(lines.count())
}

#[test]
fn scripts_that_misbehave_fail_and_disturb_nothing() {
    scenario(|lab| {
        let mut scene = Scene::new(lab, |router| router)?;
        let dir = scene.nodes[0].dir().join("scripts");
        fs::create_dir(&dir)?;
        let scripts = [
            ("flood", script(&dir, "flood", "exec yes \"$0\"")?),
            (
                "deaf",
                script(
                    &dir,
                    "deaf",
                    "trap '' TERM INT HUP\necho \"I stay\"\nwhile :; do sleep 1; done",
                )?,
            ),
            ("missing", dir.join("missing")),
            ("locked", script(&dir, "locked", "exit 0")?),
            ("good", script(&dir, "good", "echo well")?),
        ];
        fs::set_permissions(dir.join("locked"), fs::Permissions::from_mode(0o644))?;
        let checks: String = scripts
            .iter()
            .map(|(name, path)| {
                format!(
                    "[[check]]\nname = \"{name}\"\nkind = \"script\"\ncommand = [\"{}\"]\nuser = \"root\"\n\
                     interval = \"100ms\"\ntimeout = \"200ms\"\n",
                    path.display()
                )
            })
            .collect();
        let router = with(&scene, &checks);
        scene.nodes[0].reload(&[router])?;
        for name in ["flood", "deaf", "missing", "locked"] {
            wait_for(&scene.nodes[0], name, "down")?;
        }
        wait_for(&scene.nodes[0], "good", "up")?;
        let from = now();
        scene.stays(0, A_WHILE)?;
        let adverts = scene.sniffers[0].adverts(VRID, from, now());
        let gaps = adverts.windows(2).map(|pair| pair[1].0.since(pair[0].0));
        let longest = gaps.max().context("adverts")?;
        ensure!(longest < INTERVAL.times(3), "{longest}");

        let said = |name: &str| -> Result<String> { Ok(check(&scene.nodes[0], name)?.to_string()) };
        ensure!(said("deaf")?.contains("I stay"), "{}", said("deaf")?);
        ensure!(
            said("flood")?.contains("no answer within"),
            "{}",
            said("flood")?
        );
        ensure!(
            said("missing")?.contains("does not exist"),
            "{}",
            said("missing")?
        );
        ensure!(
            said("locked")?.contains("is not executable"),
            "{}",
            said("locked")?
        );
        ensure!(said("good")?.contains("well"), "{}", said("good")?);

        scene.nodes[0].stop()?;
        eventually(PATIENCE, "no script is left", || {
            Ok(processes_of(&dir)? == 0)
        })
    });
}

#[test]
fn a_gateway_that_does_not_answer_moves_the_vip() {
    scenario(|lab| {
        let gateway = lab.client("gw")?;
        let mut scene = Scene::new(lab, |router| router)?;
        let router = with(
            &scene,
            &format!(
                "track = [{{ check = \"gateway\" }}]\n[[check]]\nname = \"gateway\"\nkind = \"ping\"\n\
                 targets = [\"{}\"]\ninterface = \"eth0\"\ninterval = \"100ms\"\ntimeout = \"200ms\"\n\
                 damping = \"0s\"",
                gateway.address()
            ),
        );
        scene.nodes[0].reload(&[router])?;
        wait_for(&scene.nodes[0], "gateway", "up")?;
        gateway.ns().sysctl("net/ipv4/icmp_echo_ignore_all", "1")?;
        scene.wait_served_by(1)?;
        let down = check(&scene.nodes[0], "gateway")?;
        let words = format!("{} does not answer", gateway.address());
        ensure!(down["why"] == words.as_str(), "{down}");
        gateway.ns().sysctl("net/ipv4/icmp_echo_ignore_all", "0")?;
        scene.nodes[0].wait_for(WEB, "backup")
    });
}
