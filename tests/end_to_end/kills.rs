//! A server that is killed between any two steps of a create, a stop, a start, a wake, a removal or a reset. Whatever the
//! next one finds, nothing is lost and nothing is left over: the API's answer and the engine agree, ports belong to what
//! there is, and what was begun is finished or can be done again.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::ExitStatusExt,
    sync::Arc,
};

use futures::{StreamExt, stream};
use reqwest::Method;
use spindown::{model::birth, step::Step};

use super::*;
use crate::support::{
    block::{Block, IMAGE},
    redis::RedisServer,
    server::SshKey,
};

/// How many servers live and die at once.
const AT_ONCE: usize = 4;
/// What the server ends with.
const SIGABRT: i32 = 6;

/// What the server is doing when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Create,
    /// One that fails, since somebody else has the port.
    FailingCreate,
    Stop,
    IdleStop,
    Freeze,
    /// A freeze of what nobody seems to use.
    Probe,
    Thaw,
    Start,
    /// A start for a connection.
    Wake,
    Remove,
    Reset,
}

/// In the course of what a step is passed.
fn deeds(step: Step) -> &'static [Deed] {
    use Step::*;
    match step {
        CreateBegun | CreateClaimed | CreateMade | CreateKeysPut | CreateStarted | CreateTakenUp => &[Deed::Create],
        StopOrdered | StopDone => &[Deed::Stop, Deed::IdleStop],
        StopHalted => &[Deed::IdleStop],
        FreezeOrdered | FreezeDone => &[Deed::Freeze, Deed::Probe],
        ThawDone => &[Deed::Thaw],
        StartDone => &[Deed::Start],
        WakeStarted | WakeReady | WakeCarried => &[Deed::Wake],
        RemoveOrdered => &[Deed::Remove],
        RemoveDone | RemoveVolumesDone | RemoveForgotten | RemoveReleased => &[Deed::Remove, Deed::FailingCreate],
        ResetMade | ResetKeysPut | ResetOldStopped | ResetStarted | ResetTakenUp | ResetOldRemoved | ResetRenamed => {
            &[Deed::Reset]
        }
    }
}

/// All steps, each in the course of these deeds.
fn steps_of(among: &[Deed]) -> Vec<(Step, Deed)> {
    let all = Step::ALL.into_iter().flat_map(|step| deeds(step).iter().map(move |deed| (step, *deed)));
    all.filter(|(_, deed)| among.contains(deed)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_is_killed_at_every_step_of_a_create() {
    kill_at(steps_of(&[Deed::Create]), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_is_killed_at_every_step_of_a_stop_and_a_start() {
    kill_at(steps_of(&[Deed::Stop, Deed::IdleStop, Deed::Start]), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_is_killed_at_every_step_of_a_freeze_and_a_thaw() {
    kill_at(steps_of(&[Deed::Freeze, Deed::Probe, Deed::Thaw]), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_is_killed_at_every_step_of_a_wake() {
    kill_at(steps_of(&[Deed::Wake]), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_is_killed_at_every_step_of_a_removal() {
    kill_at(steps_of(&[Deed::Remove, Deed::FailingCreate]), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_is_killed_at_every_step_of_a_reset() {
    kill_at(steps_of(&[Deed::Reset]), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_over_redis_is_killed() {
    let redis = RedisServer::start();
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let some = [
        (Step::CreateStarted, Deed::Create),
        (Step::StopOrdered, Deed::Stop),
        (Step::RemoveDone, Deed::Remove),
        (Step::ResetRenamed, Deed::Reset),
    ];
    kill_at(some.into(), Some(&url)).await;
}

async fn kill_at(cases: Vec<(Step, Deed)>, redis: Option<&str>) {
    assert!(!cases.is_empty());
    let key = Arc::new(SshKey::make());
    let runs = stream::iter(cases).map(|(step, deed)| {
        let (key, redis) = (Arc::clone(&key), redis.map(str::to_owned));
        let run = tokio::spawn(async move { Case::new(step, deed, &key, redis).run().await });
        async move { (step, deed, run.await) }
    });
    let outcomes: Vec<_> = runs.buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<_> =
        outcomes.into_iter().filter(|(_, _, run)| run.is_err()).map(|(step, deed, _)| (step, deed)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

/// One server with one port to give out, so that it is seen whose it is.
struct Case {
    step: Step,
    deed: Deed,
    block: Arc<Block>,
    settings: Vec<(&'static str, String)>,
    /// What it is asked to make, as a form.
    form: String,
}

impl Case {
    fn new(step: Step, deed: Deed, key: &SshKey, redis: Option<String>) -> Self {
        let block = Arc::new(Block::take());
        let port = block.ports().0.to_string();
        let mut settings = vec![
            ("SPINDOWN_PORTS_FIRST", port.clone()),
            ("SPINDOWN_PORTS_LAST", port),
            ("SPINDOWN_IDLE_SWEEP", "1s".into()),
        ];
        settings.extend(redis.map(|url| ("SPINDOWN_REDIS_URL", url)));
        let timeout = if matches!(deed, Deed::IdleStop | Deed::Wake) { "1s" } else { "never" };
        let freeze = if matches!(deed, Deed::Probe) { "1s" } else { "never" };
        let form = format!(
            "image={IMAGE}&name={}-kill&idle_timeout={timeout}&freeze_after={freeze}&authorized_keys={}",
            block.instance(),
            key.encoded()
        );
        Self { step, deed, block, settings, form }
    }

    /// A server that ends at this step.
    fn start_mortal(&self) -> Server {
        let fatal = format!("{}=return", self.step.as_str());
        let mut settings: Vec<(&str, &str)> = self.settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
        settings.push(("FAILPOINTS", &fatal));
        Server::try_start(Arc::clone(&self.block), &settings).expect("the server starts")
    }

    async fn create(&self, server: &Server) -> Answer {
        let request = server.request(Method::POST, "/v1/containers", &self.form).header("Idempotency-Key", "once");
        server.send(request.basic_auth("admin", Some("spindocker"))).await
    }

    async fn run(self) {
        let mut server = self.start_mortal();
        match self.deed {
            Deed::Create => {
                self.die(&mut server, Method::POST, "/v1/containers", &self.form).await;
                let server = revive(server);
                assert!(agreed(&server).await.len() <= 1);
                let made = self.create(&server).await;
                assert_eq!(made.status, 201, "{:#}", made.json);
                assert_eq!(made.json["status"], "running", "{:#}", made.json);
                self.is_all_there_is(&server, &made.json).await;
            }
            Deed::FailingCreate => {
                let stranger = TcpListener::bind(("0.0.0.0", self.block.ports().0)).unwrap();
                self.die(&mut server, Method::POST, "/v1/containers", &self.form).await;
                drop(stranger);
                let server = revive(server);
                assert!(agreed(&server).await.is_empty());
                let made = self.create(&server).await;
                assert_eq!(made.status, 201, "{:#}", made.json);
                self.is_all_there_is(&server, &made.json).await;
            }
            Deed::Stop | Deed::IdleStop => {
                let made = self.create(&server).await.json;
                if matches!(self.deed, Deed::Stop) {
                    self.die(&mut server, Method::PATCH, &path(&made), "status=stopped").await;
                } else {
                    assert_killed(&mut server);
                }
                let server = revive(server);
                let stopped = server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
                let by = if matches!(self.deed, Deed::Stop) { "user" } else { "idle" };
                assert_eq!(stopped["stopped_by"], by, "{stopped:#}");
                self.is_all_there_is(&server, &made).await;
            }
            Deed::Start => {
                let made = self.create(&server).await.json;
                server.patch(&path(&made), "status=stopped").await;
                server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
                self.die(&mut server, Method::PATCH, &path(&made), "status=running").await;
                let server = revive(server);
                assert_eq!(server.get(&path(&made)).await.json["status"], "running");
                self.is_all_there_is(&server, &made).await;
            }
            Deed::Freeze => {
                let made = self.create(&server).await.json;
                self.die(&mut server, Method::PATCH, &path(&made), "status=frozen").await;
                let server = revive(server);
                let there = agreed(&server).await;
                let done = self.step == Step::FreezeDone;
                assert_eq!(there[0]["status"], if done { "frozen" } else { "running" }, "{there:#?}");
                self.is_reached(&server, &made).await;
                // And the other way round, as ever.
                let frozen = server.patch(&path(&made), "status=frozen").await.json;
                assert_eq!(frozen["status"], "frozen", "{frozen:#}");
                self.is_reached(&server, &made).await;
                self.is_all_there_is(&server, &made).await;
            }
            Deed::Probe => {
                let made = self.create(&server).await.json;
                assert_killed(&mut server);
                let server = revive(server);
                server.wait_for_status(made["id"].as_str().unwrap(), "frozen").await;
                server.patch(&path(&made), "freeze_after=never").await;
                self.is_reached(&server, &made).await;
                self.is_all_there_is(&server, &made).await;
            }
            Deed::Thaw => {
                let made = self.create(&server).await.json;
                let frozen = server.patch(&path(&made), "status=frozen").await.json;
                assert_eq!(frozen["status"], "frozen", "{frozen:#}");
                self.die(&mut server, Method::PATCH, &path(&made), "status=running").await;
                let server = revive(server);
                assert_eq!(server.get(&path(&made)).await.json["status"], "running");
                self.is_reached(&server, &made).await;
                self.is_all_there_is(&server, &made).await;
            }
            Deed::Wake => self.wake(server).await,
            Deed::Remove => {
                let home = format!("{}-kill-home", self.block.instance());
                let made = server
                    .post("/v1/containers", &format!("{}&volumes=%2Fhome%2Fstudent%3D{home}", self.form))
                    .await
                    .json;
                self.die(&mut server, Method::DELETE, &format!("{}?volumes=true", path(&made)), "").await;
                let server = revive(server);
                assert!(agreed(&server).await.is_empty());
                assert_eq!(server.get(&path(&made)).await.status, 404);
                assert_eq!(run("docker", &["volume", "ls", "-q", "--filter", &format!("name={home}")]), "");
                let made = self.create(&server).await;
                assert_eq!(made.status, 201, "{:#}", made.json);
                self.is_all_there_is(&server, &made.json).await;
            }
            Deed::Reset => self.reset(server).await,
        }
    }

    /// Asserts that whoever speaks to it is answered, and that it runs then.
    async fn is_reached(&self, server: &Server, container: &Value) {
        let mut client = TcpStream::connect(("127.0.0.1", self.block.ports().0)).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.write_all(b"SSH-2.0-test\r\n").unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap_or_else(|error| panic!("{error}: {}", server.log()));
        assert_eq!(&answer, b"SSH-");
        server.wait_for_status(container["id"].as_str().unwrap(), "running").await;
        assert_eq!(inspect(container, "{{.State.Paused}}"), "false");
    }

    async fn wake(&self, mut server: Server) {
        let made = self.create(&server).await.json;
        server.wait_for_status(made["id"].as_str().unwrap(), "stopped").await;
        let made = server.patch(&path(&made), "idle_timeout=never").await.json;
        let port = self.block.ports().0;
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.write_all(b"SSH-2.0-test\r\n").unwrap();
        assert_killed(&mut server);
        let mut answer = [0; 4];
        let read = client.read_exact(&mut answer);
        if self.step == Step::WakeCarried {
            read.unwrap();
            assert_eq!(&answer, b"SSH-");
        } else {
            // What was said has come to nothing, and must not look as if it had come through.
            assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        let server = revive(server);
        assert_eq!(server.get(&path(&made)).await.json["status"], "running");
        if self.step == Step::WakeCarried {
            assert!(client.read(&mut [0; 256]).unwrap() > 0, "it goes on");
        }
        until_greeted(HERE, port).await;
        self.is_all_there_is(&server, &made).await;
    }

    async fn reset(&self, mut server: Server) {
        let made = self.create(&server).await.json;
        run("docker", &["exec", engine_id(&made), "touch", "/root/mark"]);
        self.die(&mut server, Method::POST, &format!("{}/reset", path(&made)), "").await;
        let server = revive(server);
        let there = agreed(&server).await;
        let [after] = &there[..] else { panic!("{there:#?}") };
        // Either nothing has happened to what is in it, or it is done.
        let whole = after["container_id"] == made["container_id"];
        assert_eq!(self.is_marked(after), whole);
        let done = ![Step::ResetMade, Step::ResetKeysPut, Step::ResetOldStopped].contains(&self.step);
        assert_eq!(whole, !done);
        let status = if self.step == Step::ResetOldStopped { "stopped" } else { "running" };
        assert_eq!(after["status"], status, "{after:#}");
        self.is_all_there_is(&server, &made).await;
        let again = server.post(&format!("{}/reset", path(&made)), "").await;
        assert_eq!((again.status, &again.json["status"]), (200, &"running".into()), "{:#}", again.json);
        assert!(!self.is_marked(&again.json));
        assert_ne!(again.json["container_id"], after["container_id"]);
        self.is_all_there_is(&server, &made).await;
    }

    /// Whether it has the file that was made before the reset.
    fn is_marked(&self, container: &Value) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (format!("{}:/root/mark", engine_id(container)), folder.path().join("mark"));
        let copied = std::process::Command::new("docker").args(["cp", &from]).arg(to).output().unwrap();
        copied.status.success()
    }

    /// Sends what the server ends over.
    async fn die(&self, server: &mut Server, method: Method, path: &str, body: &str) {
        let request = server.request(method.clone(), path, body).basic_auth("admin", Some("spindocker"));
        let request = if method == Method::POST { request.header("Idempotency-Key", "once") } else { request };
        let _ = request.send().await;
        assert_killed(server);
    }

    /// Asserts that there is this container and no other, and that it has the only port; that it can be removed, and
    /// another one made.
    async fn is_all_there_is(&self, server: &Server, container: &Value) {
        let there = agreed(server).await;
        let [only] = &there[..] else { panic!("{there:#?}") };
        for member in ["id", "name", "ports", "owner", "labels", "created_at", "idle_timeout", "ssh_host_keys"] {
            assert!(
                only[member] == container[member] || container[member] == Value::Array(Vec::new()),
                "{member} of {only:#} was {}",
                container[member]
            );
        }
        let another = server.post("/v1/containers", &format!("image={IMAGE}")).await;
        assert_eq!(another.status, 503, "{:#}", another.json);
        assert!(another.json["message"].as_str().unwrap().contains("no port is left"), "{:#}", another.json);
    }
}

/// The next server, which lives.
fn revive(server: Server) -> Server {
    server.start_again(&[("FAILPOINTS", "")])
}

/// Asserts that the server ended at its step.
fn assert_killed(server: &mut Server) {
    assert_eq!(server.await_end().signal(), Some(SIGABRT), "it was not reached: {}", server.log());
}

/// Waits until the API shows what the engine has, and nothing else: engine's id, name and status of each. Answers it.
async fn agreed(server: &Server) -> Vec<Value> {
    let ours = format!("label={}={}", birth::MANAGED, server.block.instance());
    let format = "{{.ID}} /{{.Names}} {{.State}}";
    let deadline = Instant::now() + SOON;
    loop {
        let told = server.get("/v1/containers").await.json;
        let told = told.as_array().unwrap();
        let word = |container: &Value, member: &str| container[member].as_str().unwrap().to_owned();
        let lines =
            told.iter().map(|c| format!("{} {} {}", word(c, "container_id"), word(c, "name"), word(c, "status")));
        let lines: BTreeSet<String> = lines.collect();
        let listed = run("docker", &["ps", "-a", "--no-trunc", "--filter", &ours, "--format", format]);
        let listed: BTreeSet<String> =
            listed.lines().map(|line| line.replace(" exited", " stopped").replace(" paused", " frozen")).collect();
        if lines == listed {
            return told.clone();
        }
        assert!(Instant::now() < deadline, "the API has {lines:?}, the engine {listed:?}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
