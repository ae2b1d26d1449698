//! The containers' network: made when it is not there, compared when it is.

use std::{collections::HashMap, time::Duration};

use bollard::{
    models::{Ipam, IpamConfig, Network, NetworkCreateRequest},
    query_parameters::ListNetworksOptions,
};

use super::{Docker, errors::Task};
use crate::{
    engine::NetworkSpec,
    model::{Error, Kind, Result, birth},
};

/// The engine's name for the option that names the interface.
const BRIDGE: &str = "com.docker.network.bridge.name";
/// The engine's name for the option that lets containers reach each other.
const ICC: &str = "com.docker.network.bridge.enable_icc";
/// How often it is looked for a network that another server is just making, and how long apart.
const LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(100);

/// The networks of exactly this name; the engine allows several.
pub(super) async fn find(docker: &Docker, name: &str) -> Result<Vec<Network>> {
    // A filter rather than the name in the request's path, where it could also be the beginning of an id.
    let options = ListNetworksOptions { filters: Some(HashMap::from([("name".to_owned(), vec![name.to_owned()])])) };
    let mut found = docker.call(Task::List, async { docker.client()?.list_networks(Some(options)).await }).await?;
    found.retain(|network| network.name.as_deref() == Some(name));
    Ok(found)
}

/// Whether the network exists, and as specified.
pub(super) async fn is_there(docker: &Docker, spec: &NetworkSpec) -> Result<bool> {
    match &find(docker, &spec.name).await?[..] {
        [] => Ok(false),
        [network] => compare(network, spec, &docker.instance).map(|()| true),
        _ => Err(Error::conflict(format!(
            "the engine has several networks of the name {:?}: remove all but one with \"docker network rm <id>\", or change \
             \"network.name\"",
            spec.name
        ))),
    }
}

/// Makes sure that the network exists as specified.
pub(super) async fn ensure(docker: &Docker, spec: &NetworkSpec) -> Result<()> {
    let mut looks = 0;
    loop {
        if is_there(docker, spec).await? {
            return Ok(());
        }
        looks += 1;
        // The engine does not insist on different names, but on different addresses and bridges: of two servers that
        // make the network at the same time one fails, and finds the other's when it looks again.
        match create(docker, spec).await {
            Err(error) if error.kind() == Kind::Conflict && looks < LOOKS => tokio::time::sleep(PAUSE).await,
            other => return other,
        }
    }
}

async fn create(docker: &Docker, spec: &NetworkSpec) -> Result<()> {
    let request = request(spec, &docker.instance);
    let made = async { docker.client()?.create_network(request).await.map(drop) };
    docker.call(Task::Network(spec), made).await
}

fn request(spec: &NetworkSpec, instance: &str) -> NetworkCreateRequest {
    let addresses = IpamConfig {
        subnet: Some(spec.subnet.to_string()),
        gateway: Some(spec.gateway().to_string()),
        ip_range: Some(spec.foreign().to_string()),
        auxiliary_addresses: None,
    };
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![addresses]), ..Default::default() }),
        options: Some(HashMap::from([(BRIDGE.to_owned(), spec.bridge.clone()), (ICC.to_owned(), false.to_string())])),
        labels: Some(HashMap::from([(birth::MANAGED.to_owned(), instance.to_owned())])),
        ..Default::default()
    }
}

/// Whether a network that is there is the one specified.
fn compare(network: &Network, spec: &NetworkSpec, instance: &str) -> Result<()> {
    let wanted = request(spec, instance);
    let option = |name: &str| network.options.as_ref().and_then(|o| o.get(name)).map(String::as_str);
    let label = network.labels.as_ref().and_then(|l| l.get(birth::MANAGED)).map(String::as_str);
    let has = |pool: &IpamConfig| pool.subnet.clone();
    let pools = network.ipam.as_ref().and_then(|i| i.config.as_deref()).unwrap_or_default();
    let wanted_pool = wanted.ipam.as_ref().and_then(|i| i.config.as_deref()).and_then(<[IpamConfig]>::first);
    let shown = |text: Option<&str>| text.unwrap_or("unset").to_owned();
    let difference = if label.is_some_and(|other| other != instance) {
        Some(format!("belongs to the instance {:?}", shown(label)))
    } else if network.driver != wanted.driver {
        Some(format!("has the driver {:?}", shown(network.driver.as_deref())))
    } else if pools.first().and_then(has) != wanted_pool.and_then(has) {
        let subnet = pools.first().and_then(has);
        Some(format!("has the addresses {}, not {}", shown(subnet.as_deref()), spec.subnet))
    } else if pools.first() != wanted_pool {
        Some(format!("lets the engine give out other addresses than {}", spec.foreign()))
    } else if option(BRIDGE) != Some(&spec.bridge) {
        Some(format!("is on the bridge {:?}, not {:?}", shown(option(BRIDGE)), spec.bridge))
    } else if option(ICC) != Some("false") {
        Some("lets containers reach each other".to_owned())
    } else {
        None
    };
    match difference {
        None => Ok(()),
        Some(difference) => Err(Error::conflict(format!(
            "the engine's network {:?} {difference}: remove it with \"docker network rm {}\" and it is made anew, or \
             change the settings below \"network\"",
            spec.name, spec.name
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> NetworkSpec {
        NetworkSpec { name: "n".into(), bridge: "br".into(), subnet: "10.9.0.0/24".parse().unwrap() }
    }

    fn made() -> Network {
        let NetworkCreateRequest { name, driver, ipam, options, labels, .. } = request(&spec(), "test");
        Network { name: Some(name), driver, ipam, options, labels, ..Default::default() }
    }

    #[test]
    fn what_is_made_is_what_is_wanted() {
        compare(&made(), &spec(), "test").unwrap();
    }

    #[test]
    fn every_difference_is_a_conflict_that_says_how_to_mend_it() {
        type Change = fn(&mut Network);
        let changes: [(Change, &str); 6] = [
            (|n| n.driver = Some("macvlan".into()), "macvlan"),
            (|n| n.ipam = None, "unset"),
            (|n| n.ipam.as_mut().unwrap().config.as_mut().unwrap()[0].ip_range = None, "10.9.0.240/28"),
            (|n| drop(n.options.as_mut().unwrap().insert(BRIDGE.into(), "other".into())), "\"other\""),
            (|n| drop(n.options.as_mut().unwrap().remove(ICC)), "reach each other"),
            (|n| drop(n.labels.as_mut().unwrap().insert(birth::MANAGED.into(), "second".into())), "second"),
        ];
        for (change, part) in changes {
            let mut network = made();
            change(&mut network);
            let error = compare(&network, &spec(), "test").unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict);
            assert!(error.message().contains(part), "{}", error.message());
            assert!(error.message().contains("docker network rm n"), "{}", error.message());
        }
    }
}
