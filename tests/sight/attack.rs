//! Whoever is root in a container does to his terminals what he can, before and after the first look.

use std::path::Path;

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
