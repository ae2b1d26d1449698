//! Whoever is root in a container does to his terminals what he can, before and after the first look.

use std::{net::TcpStream, path::Path};

use super::*;

/// What he tries: with the rights that the service gives, and where he has all of them.
const TRICKS: &str = r#"
rm -rf /dev/pts/* ; ln -s /etc/hostname /dev/pts/77 ; mkdir /dev/pts/78 ; mv /dev/pts /dev/old ; rmdir /dev/pts
mknod /dev/pts/79 c 136 0 ; touch /dev/pts/80 ; ln -sf /dev/console /dev/pts/0 ; chmod 0 /dev/pts/0
true
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tricks_with_files_change_nothing() {
    let (sandbox, key) = (Sandbox::ssh(), SshKey::make());
    sandbox.let_in(&key);
    let target = sandbox.target();
    let person = Guest::new(&mut key.ssh(&sandbox.port(), &["-tt", "echo here; exec cat"]));
    person.until("here");
    let before = eyes();
    assert_eq!(look(&before, &target).await.terminals.len(), 1);
    sandbox.exec(&format!("exec 2>/dev/null; {TRICKS}"));
    for (eyes, what) in [(before, "seen before"), (eyes(), "seen after")] {
        let seen = look(&eyes, &target).await;
        assert_eq!(seen.terminals.iter().map(|t| t.number).collect::<Vec<_>>(), [0], "{what}");
        assert_eq!(eyes.tell(&target, what).await.unwrap(), 1);
        person.until(what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_path_leads_out_of_a_container_that_may_do_anything() {
    for (trick, expected, told) in [
        // A folder with what looks like terminals: a file, a link, a pipe.
        ("umount -l /dev/pts; cd /dev/pts; echo mine >0; ln -s /etc/hostname 1; mkfifo 2", 0, 0),
        // A link to one's own, and out of it.
        ("umount -l /dev/pts; rmdir /dev/pts; ln -s /proc/1/root/dev/pts /dev/pts", 0, 0),
        ("umount -l /dev/pts; rmdir /dev/pts; ln -s ../../../../../../dev/pts /dev/pts", 0, 0),
        // Something over a terminal.
        ("echo mine >/tmp/file; mount --bind /tmp/file /dev/pts/0", 0, 0),
        ("mknod /tmp/null c 1 3; mount --bind /tmp/null /dev/pts/0", 0, 0),
        // Nothing at all.
        ("umount -l /dev/pts; rmdir /dev/pts", 0, 0),
        // And a terminal as it should be.
        ("true", 1, 1),
    ] {
        let sandbox =
            Sandbox::with(&["--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined", "-t"], &["sleep", "60"]);
        let target = sandbox.target();
        let eyes = eyes();
        sandbox.exec(trick);
        let seen = look(&eyes, &target).await;
        assert_eq!(seen.terminals.len(), expected, "{trick}: {seen:?}");
        assert_eq!(eyes.tell(&target, "intruder").await.unwrap(), told, "{trick}");
        let found = sandbox.exec("timeout 1 cat /etc/hostname /tmp/file /dev/pts/0 2>/dev/null </dev/null; true");
        assert!(!found.contains("intruder"), "{trick}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminals_of_the_machine_itself_are_not_told() {
    assert!(Path::new("/dev/pts/ptmx").exists());
    let sandbox = Sandbox::with(&["-v", "/dev/pts:/dev/pts"], &["sleep", "60"]);
    let eyes = eyes();
    assert_eq!(look(&eyes, &sandbox.target()).await.terminals, []);
    assert_eq!(eyes.tell(&sandbox.target(), "hello").await.unwrap(), 0);
}

/// Many that call themselves sessions, and have a crowd of sockets each; 7001 takes connections.
const CROWD: &str = r#"
alarm 120; $SIG{CHLD} = 'IGNORE'; my @all;
for (1..1000) { socket(my $s, AF_INET, SOCK_STREAM, 0) or last; push @all, $s }
$0 = 'sshd: student@pts/0';
for (1..900) { my $child = fork; last unless defined $child; if (!$child) { sleep 120; exit } }
my $s = IO::Socket::INET->new(LocalPort => 7001, Listen => 99, ReuseAddr => 1) or die;
while (my $c = $s->accept) { push @all, $c }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_pretends_to_have_logged_in_keeps_nobody_from_being_seen() {
    let (crowd, other) = (Sandbox::perl(CROWD), Sandbox::ssh());
    let (_a, _b): (TcpStream, TcpStream) = (crowd.connect(7001), other.connect(22));
    let eyes = eyes();
    let targets = vec![crowd.target(), other.target()];
    for _ in 0..3 {
        let begun = Instant::now();
        let looks = eyes.look(targets.clone()).await;
        eprintln!("in {:?}: {:?}", begun.elapsed(), looks[0].1.as_ref().map(|look| look.connections.len()));
        assert!(begun.elapsed() < SECOND * 3, "{:?}", begun.elapsed());
        assert_eq!(looks[1].1.as_ref().unwrap().connections.len(), 1);
        if let Err(error) = &looks[0].1 {
            assert!(error.message().contains("who has logged in"), "{error}");
        }
    }
}
