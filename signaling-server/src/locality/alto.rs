//! A client of ALTO (RFC 7285): finds the network map and the cost map of a server by its directory, and reads them again
//! now and then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use headwater_rendezvous::{CostMap, Pid};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};
use url::Url;

use super::Locality;
use crate::follow::aside;
use crate::hub::Hub;
use crate::proxy::Network;

/// How often the maps are read: carriers change them by the hour.
const READ_EVERY: Duration = Duration::from_secs(300);

/// How soon again after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How long a server may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Largest answer that is read: a map of every prefix of the internet is smaller.
const MAX_ANSWER: usize = 64 << 20;

const DIRECTORY: &str = "application/alto-directory+json";
const NETWORK_MAP: &str = "application/alto-networkmap+json";
const COST_MAP: &str = "application/alto-costmap+json";

/// Why there are no maps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AltoError {
    #[error("cannot read {0}: {1}")]
    Unreachable(Url, #[source] reqwest::Error),
    #[error("{0} is larger than is read here")]
    TooLarge(Url),
    #[error("{0} is not what ALTO prescribes: {1}")]
    Malformed(Url, #[source] serde_json::Error),
    #[error("the directory {0} names no {1}")]
    Missing(Url, &'static str),
    #[error("the cost map {0} is for another version of the network map than the one that is served now")]
    Versions(Url),
    #[error("the maps could not be worked on: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}

#[derive(Deserialize)]
struct Directory {
    #[serde(default)]
    meta: DirectoryMeta,
    resources: BTreeMap<String, Resource>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct DirectoryMeta {
    #[serde(default)]
    cost_types: BTreeMap<String, CostType>,
    #[serde(default)]
    default_alto_network_map: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CostType {
    cost_mode: String,
    cost_metric: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Resource {
    uri: String,
    media_type: String,
    #[serde(default)]
    uses: Vec<String>,
    #[serde(default)]
    capabilities: Capabilities,
    #[serde(default)]
    accepts: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Capabilities {
    #[serde(default)]
    cost_type_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct NetworkMap {
    meta: NetworkMapMeta,
    network_map: BTreeMap<String, Endpoints>,
}

/// What a network map says of itself: groups may mean something else in its next version.
#[derive(Deserialize)]
struct NetworkMapMeta {
    vtag: VersionTag,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CostsMeta {
    dependent_vtags: Vec<VersionTag>,
}

#[derive(PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct VersionTag {
    resource_id: String,
    tag: String,
}

#[derive(Deserialize)]
struct Endpoints {
    #[serde(default)]
    ipv4: Vec<String>,
    #[serde(default)]
    ipv6: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Costs {
    meta: CostsMeta,
    cost_map: BTreeMap<String, BTreeMap<String, f64>>,
}

/// The two maps of a carrier.
#[derive(Debug, Clone, Default)]
pub(crate) struct AltoMaps {
    /// Groups by the length of their networks' prefixes.
    groups: BTreeMap<u32, BTreeMap<u128, Pid>>,
    pub(crate) costs: CostMap,
}

impl AltoMaps {
    fn new(networks: &NetworkMap, costs: &Costs) -> Self {
        let mut groups: BTreeMap<u32, BTreeMap<u128, Pid>> = BTreeMap::new();
        for (name, endpoints) in &networks.network_map {
            let parsed = endpoints.ipv4.iter().chain(&endpoints.ipv6).filter_map(|text| text.parse::<Network>().ok());
            for network in parsed {
                groups.entry(network.prefix_len()).or_default().insert(network.first(), pid(name));
            }
        }
        let pairs =
            costs.cost_map.iter().flat_map(|(from, row)| row.iter().map(move |(to, cost)| (pid(from), pid(to), *cost)));
        Self { groups, costs: CostMap::new(pairs) }
    }

    /// The group with the longest prefix of an address.
    pub(crate) fn pid(&self, addr: IpAddr) -> Option<Pid> {
        let by_length = self.groups.iter().rev();
        by_length.into_iter().find_map(|(len, networks)| networks.get(&Network::first_of(addr, *len)).copied())
    }

    fn groups(&self) -> usize {
        self.groups.values().map(BTreeMap::len).sum()
    }
}

/// A group is known by its name.
fn pid(name: &str) -> Pid {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    Pid(u64::from_le_bytes(first))
}

/// Reads the maps for ever. A server that does not answer leaves those that were read before. Never returns.
pub(crate) async fn follow(directory: Option<&Url>, locality: &Locality, hub: &Hub) {
    let Some(directory) = directory else { return std::future::pending().await };
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            warn!(%error, "no ALTO: pairing goes on without a carrier's costs");
            return std::future::pending().await;
        }
    };
    loop {
        let pause = match read(&client, directory).await {
            Ok(maps) => {
                info!(networks = maps.groups(), "read the carrier's maps");
                hub.set_costs(maps.costs.clone());
                locality.set_maps(maps);
                READ_EVERY
            }
            Err(error) => {
                warn!(%error, "could not read the carrier's maps: pairing goes on with what was read before");
                RETRY_AFTER
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn client() -> Result<reqwest::Client, reqwest::Error> {
    // Only the first call of a process does something.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(TIMEOUT).build()
}

async fn read(client: &reqwest::Client, directory: &Url) -> Result<AltoMaps, AltoError> {
    let found: Directory = get(client, directory, DIRECTORY).await?;
    let missing = |what| AltoError::Missing(directory.clone(), what);
    let (id, network_map) = network_map(&found).ok_or(missing("network map"))?;
    let cost_map = cost_map(&found, id).ok_or(missing("cost map with numerical routingcost"))?;
    let at = |resource: &Resource| directory.join(&resource.uri).map_err(|_| missing("valid uri"));
    let networks: NetworkMap = get(client, &at(network_map)?, NETWORK_MAP).await?;
    let costs_url = at(cost_map)?;
    let costs: Costs = get(client, &costs_url, COST_MAP).await?;
    // One of them was changed between the two requests, or the server has not reckoned its costs anew yet.
    if !costs.meta.dependent_vtags.contains(&networks.meta.vtag) {
        return Err(AltoError::Versions(costs_url));
    }
    Ok(aside(move || AltoMaps::new(&networks, &costs)).await?)
}

fn network_map(directory: &Directory) -> Option<(&str, &Resource)> {
    let is_map = |resource: &Resource| resource.media_type == NETWORK_MAP && resource.accepts.is_none();
    let named = directory.meta.default_alto_network_map.as_ref();
    let default = named.and_then(|id| directory.resources.get_key_value(id));
    default
        .into_iter()
        .chain(&directory.resources)
        .find(|(_, resource)| is_map(resource))
        .map(|(id, resource)| (id.as_str(), resource))
}

/// The whole cost map of a network map, in numbers that can be compared.
fn cost_map<'a>(directory: &'a Directory, network_map: &str) -> Option<&'a Resource> {
    directory.resources.values().find(|resource| {
        resource.media_type == COST_MAP
            && resource.accepts.is_none()
            && resource.uses.iter().any(|used| used == network_map)
            && resource.capabilities.cost_type_names.iter().any(|name| {
                directory.meta.cost_types.get(name).is_some_and(|cost_type| {
                    cost_type.cost_mode == "numerical" && cost_type.cost_metric == "routingcost"
                })
            })
    })
}

async fn get<T: DeserializeOwned + Send + 'static>(
    client: &reqwest::Client,
    url: &Url,
    accept: &str,
) -> Result<T, AltoError> {
    let unreachable = |error| AltoError::Unreachable(url.clone(), error);
    let accept = format!("{accept},application/alto-error+json");
    let answer = client.get(url.clone()).header("accept", accept).send().await;
    let mut answer = answer.and_then(reqwest::Response::error_for_status).map_err(unreachable)?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(AltoError::TooLarge(url.clone()));
        }
        body.extend_from_slice(&chunk);
    }
    let read = aside(move || serde_json::from_slice(&body)).await?;
    read.map_err(|error| AltoError::Malformed(url.clone(), error))
}

#[cfg(test)]
mod tests;
