//! A small ALTO server with the examples of RFC 7285 (sections 9.2.4, 11.2.1.6 and 11.2.3.6). The version tags of those two maps
//! differ in the RFC, which are of two servers then: here the cost map has the network map's.

use axum::Router;
use axum::routing::get;
use headwater_rendezvous::Config;
use headwater_rendezvous::tracker::TrackerConfig;

use super::*;

const DIRECTORY_JSON: &str = r#"{
  "meta": {
    "cost-types": {
      "num-routing": { "cost-mode": "numerical", "cost-metric": "routingcost", "description": "My default" },
      "num-hop": { "cost-mode": "numerical", "cost-metric": "hopcount" },
      "ord-routing": { "cost-mode": "ordinal", "cost-metric": "routingcost" },
      "ord-hop": { "cost-mode": "ordinal", "cost-metric": "hopcount" }
    },
    "default-alto-network-map": "my-default-network-map"
  },
  "resources": {
    "my-default-network-map": { "uri": "/networkmap", "media-type": "application/alto-networkmap+json" },
    "numerical-routing-cost-map": {
      "uri": "costmap/num/routingcost", "media-type": "application/alto-costmap+json",
      "capabilities": { "cost-type-names": ["num-routing"] }, "uses": ["my-default-network-map"]
    },
    "numerical-hopcount-cost-map": {
      "uri": "/costmap/num/hopcount", "media-type": "application/alto-costmap+json",
      "capabilities": { "cost-type-names": ["num-hop"] }, "uses": ["my-default-network-map"]
    },
    "filtered-cost-map": {
      "uri": "/costmap/filtered", "media-type": "application/alto-costmap+json",
      "accepts": "application/alto-costmapfilter+json",
      "capabilities": { "cost-constraints": true, "cost-type-names": ["num-routing", "num-hop"] },
      "uses": ["my-default-network-map"]
    },
    "endpoint-property": {
      "uri": "/endpointprop/lookup", "media-type": "application/alto-endpointprop+json",
      "accepts": "application/alto-endpointpropparams+json",
      "capabilities": { "prop-types": ["my-default-network-map.pid", "priv:ietf-example-prop"] }
    }
  }
}"#;

const NETWORK_MAP_JSON: &str = r#"{
  "meta": { "vtag": { "resource-id": "my-default-network-map", "tag": "da65eca2eb7a10ce8b059740b0b2e3f8eb1d4785" } },
  "network-map": {
    "PID1": { "ipv4": ["192.0.2.0/24", "198.51.100.0/25"] },
    "PID2": { "ipv4": ["198.51.100.128/25"] },
    "PID3": { "ipv4": ["0.0.0.0/0"], "ipv6": ["::/0"] }
  }
}"#;

const COST_MAP_JSON: &str = r#"{
  "meta": {
    "dependent-vtags": [{ "resource-id": "my-default-network-map", "tag": "da65eca2eb7a10ce8b059740b0b2e3f8eb1d4785" }],
    "cost-type": { "cost-mode": "numerical", "cost-metric": "routingcost" }
  },
  "cost-map": {
    "PID1": { "PID1": 1, "PID2": 5, "PID3": 10 },
    "PID2": { "PID1": 5, "PID2": 1, "PID3": 15 },
    "PID3": { "PID1": 20, "PID2": 15 }
  }
}"#;

/// The server, and where its directory is.
async fn serve(directory: &'static str) -> Url {
    serve_with(directory, NETWORK_MAP_JSON.to_owned()).await
}

async fn serve_with(directory: &'static str, network_map: String) -> Url {
    let router = Router::new()
        .route("/directory", get(async move || directory))
        .route("/networkmap", get(async move || network_map.clone()))
        .route("/costmap/num/routingcost", get(async || COST_MAP_JSON));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/directory", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(crate::server::serve_for_tests(listener, router));
    url
}

#[tokio::test]
async fn the_examples_of_the_rfc_are_found_by_the_directory_and_read() {
    let url = serve(DIRECTORY_JSON).await;
    let maps = read(&client().unwrap(), &url).await.unwrap();
    let group = |addr: &str| maps.pid(addr.parse().unwrap());
    assert_eq!(group("192.0.2.77"), Some(pid("PID1")));
    assert_eq!(group("198.51.100.127"), Some(pid("PID1")));
    assert_eq!(group("198.51.100.128"), Some(pid("PID2")));
    assert_eq!(group("203.0.113.1"), Some(pid("PID3")));
    assert_eq!(group("2001:db8::1"), Some(pid("PID3")));
    let expected = [
        ("PID1", "PID1", 1.0),
        ("PID1", "PID2", 5.0),
        ("PID1", "PID3", 10.0),
        ("PID2", "PID1", 5.0),
        ("PID2", "PID2", 1.0),
        ("PID2", "PID3", 15.0),
        ("PID3", "PID1", 20.0),
        ("PID3", "PID2", 15.0),
    ];
    assert_eq!(maps.costs, CostMap::new(expected.map(|(from, to, cost)| (pid(from), pid(to), cost))));
}

#[tokio::test]
async fn places_have_their_group_once_the_maps_are_there() {
    let url = serve(DIRECTORY_JSON).await;
    let locality = Locality::new(Vec::new()).unwrap();
    let hub = Hub::new(Config::new([0; 32]), TrackerConfig::default(), None, None, 1);
    let addr = "192.0.2.1".parse().unwrap();
    assert_eq!(locality.place(addr).pid, None);
    let known = async {
        while locality.place(addr).pid.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = follow(Some(&url), &locality, &hub) => unreachable!(),
        () = known => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("the maps were not read"),
    }
    assert_eq!(locality.place(addr).pid, Some(pid("PID1")));
}

#[tokio::test]
async fn costs_of_another_version_of_the_network_map_are_not_taken() {
    let client = client().unwrap();
    let newer = NETWORK_MAP_JSON.replace("da65eca2", "00000000");
    let error = read(&client, &serve_with(DIRECTORY_JSON, newer).await).await.unwrap_err().to_string();
    assert!(error.contains("costmap/num/routingcost") && error.contains("version"), "{error}");
    let untagged = NETWORK_MAP_JSON.replace("\"vtag\"", "\"other\"");
    let error = read(&client, &serve_with(DIRECTORY_JSON, untagged).await).await.unwrap_err().to_string();
    assert!(error.contains("vtag"), "{error}");
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_said() {
    let client = client().unwrap();
    let said = async |directory| read(&client, &serve(directory).await).await.unwrap_err().to_string();
    assert!(said("{").await.contains("not what ALTO prescribes"));
    assert!(said(r#"{"resources":{}}"#).await.contains("network map"));
    let ordinal = r#"{"meta":{"cost-types":{"o":{"cost-mode":"ordinal","cost-metric":"routingcost"}}},"resources":{
        "n":{"uri":"/networkmap","media-type":"application/alto-networkmap+json"},
        "c":{"uri":"/c","media-type":"application/alto-costmap+json","uses":["n"],"capabilities":{"cost-type-names":["o"]}}}}"#;
    assert!(said(ordinal).await.contains("cost map"));
    let elsewhere = r#"{"resources":{"n":{"uri":"/nowhere","media-type":"application/alto-networkmap+json"}}}"#;
    assert!(said(elsewhere).await.contains("cost map"));
    let url = "http://127.0.0.1:1/".parse().unwrap();
    assert!(read(&client, &url).await.unwrap_err().to_string().contains("cannot read"));
}
