//! Volumes: what lies in one outlives its container, and nobody gets at what is not Spindown's.

use super::*;
use crate::support::server::{SshKey, run};

#[tokio::test]
async fn a_home_outlives_reset_and_delete() {
    let server = Server::start(&[]);
    let key = SshKey::make();
    let volume = format!("{}-home", server.block.instance());
    let form = format!("authorized_keys={}&volumes=/home/student={volume}", key.encoded());
    // The keys are put into a fresh volume, before the first start; what the image has there is in it too.
    let made = server.create(&form).await;
    assert_eq!(made["volumes"], serde_json::json!({"/home/student": volume}));
    let login = |container: &Value, remote: &str| key.login_soon(text(&container["ssh_port"]), &[remote]);
    assert_eq!(login(&made, "echo mine >work; ls -a .bashrc; stat -c '%U %a' .ssh"), ".bashrc\nstudent 700");

    let path = format!("/v1/containers/{}", text(&made["id"]));
    let reset = server.post(&format!("{path}/reset"), "").await;
    assert_eq!((reset.status, &reset.json["volumes"]), (200, &made["volumes"]), "{:#}", reset.json);
    assert_eq!(login(&reset.json, "cat work"), "mine");

    // Two may have it at once, and it goes with the last of them.
    let other = server.create(&form).await;
    assert_eq!(login(&other, "cat work"), "mine");
    assert_eq!(server.delete(&format!("{path}?volumes=true")).await.status, 204);
    assert_eq!(login(&other, "cat work"), "mine");
    let path = format!("/v1/containers/{}", text(&other["id"]));
    assert_eq!(server.delete(&path).await.status, 204);
    let third = server.create(&form).await;
    assert_eq!(login(&third, "cat work"), "mine");
    let path = format!("/v1/containers/{}", text(&third["id"]));
    assert_problem("delete", &server.delete(&format!("{path}?volumes=maybe")).await, 400, &["volumes"]);
    assert_eq!(server.delete(&format!("{path}?volumes=true")).await.status, 204);
    assert_eq!(run("docker", &["volume", "ls", "-q", "--filter", &format!("name={volume}")]), "");
}

#[tokio::test]
async fn a_volume_is_no_way_to_the_host_nor_to_others() {
    let server = Server::start(&[]);
    let image = light_image();
    let strange = format!("{}-strange", server.block.instance());
    run("docker", &["volume", "create", &strange]);
    let create = async |volumes: &str| server.post("/v1/containers", &format!("image={image}&{volumes}")).await;
    let refused = create(&format!("volumes=/srv={strange}")).await;
    run("docker", &["volume", "rm", &strange]);
    assert_problem("somebody else's", &refused, 409, &[&strange]);
    for (volumes, word) in [
        ("volumes=/srv=/etc", "name"),
        ("volumes=/srv=../etc", "name"),
        ("volumes=/srv=", "name"),
        ("volumes=srv=ab", "mount point"),
        ("volumes=/=ab", "mount point"),
        ("volumes=/etc/cron.d=ab", "sandbox"),
        ("volumes=/usr/local/bin=ab", "sandbox"),
        ("volumes=/srv/../etc=ab", "mount point"),
        ("volumes=srv", "name=value"),
    ] {
        assert_problem(volumes, &create(volumes).await, 400, &["volumes", word]);
    }
    let many: Vec<_> = (0..9).map(|n| format!("volumes=/srv/{n}=vol{n}")).collect();
    assert_problem("nine", &create(&many.join("&")).await, 400, &["volumes", "8"]);
    let answer = server.post("/v1/containers", &format!(r#"{{"image": "{image}", "volumes": {{"/srv": 5}}}}"#)).await;
    assert_problem("a number", &answer, 400, &["volumes./srv"]);
    assert_eq!(server.get("/v1/containers").await.json, serde_json::json!([]));
}
