//! Where clients are: from MMDB files (`--geo-db`) and from a carrier's ALTO server (`--alto`). What to make of it is the
//! core's.

pub(crate) mod alto;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use headwater_rendezvous::{Country, Place};
use maxminddb::{MaxMindDbError, Reader};
use serde::Deserialize;

use self::alto::AltoMaps;
use crate::follow::Followed;

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0} is no MMDB file that can be used: {1}")]
pub struct GeoError(PathBuf, #[source] Box<MaxMindDbError>);

/// Everything that is known about places.
#[derive(Debug)]
pub(crate) struct Locality {
    databases: Option<Followed<Databases>>,
    maps: RwLock<Option<Arc<AltoMaps>>>,
}

/// What is read of an entry, in the forms of the databases that there are: MaxMind's and those of ip-location-db.
#[derive(Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    autonomous_system_number: Option<u32>,
    #[serde(default)]
    country: Option<CountryEntry>,
    #[serde(default)]
    country_code: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct CountryEntry {
    #[serde(default)]
    iso_code: Option<String>,
}

/// One database for countries, one for autonomous systems, or one with both.
pub(crate) struct Databases(Vec<Reader<Vec<u8>>>);

impl Locality {
    pub(crate) fn new(files: Vec<PathBuf>) -> Result<Self, GeoError> {
        let databases = if files.is_empty() {
            None
        } else {
            Some(Followed::new("geo databases", files.clone(), move || Databases::read(&files))?)
        };
        Ok(Self { databases, maps: RwLock::new(None) })
    }

    /// The databases, to be followed.
    pub(crate) const fn databases(&self) -> Option<&Followed<Databases>> {
        self.databases.as_ref()
    }

    /// Takes a carrier's new maps.
    pub(crate) fn set_maps(&self, maps: AltoMaps) {
        *self.maps.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(maps));
    }

    /// Where an address is.
    pub(crate) fn place(&self, addr: IpAddr) -> Place {
        let mut place = Place { addr: Some(addr), ..Place::default() };
        if let Some(databases) = &self.databases {
            databases.get().fill(&mut place, addr);
        }
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner).clone();
        place.pid = maps.and_then(|maps| maps.pid(addr));
        place
    }
}

impl Databases {
    fn read(files: &[PathBuf]) -> Result<Self, GeoError> {
        let read = |file: &PathBuf| open(file).map_err(|error| GeoError(file.clone(), Box::new(error)));
        files.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    fn fill(&self, place: &mut Place, addr: IpAddr) {
        for reader in &self.0 {
            // An address of the other family, or one that is in no entry, is just not known.
            let Ok(found) = reader.lookup(addr) else { continue };
            let Ok(Some(entry)) = found.decode::<Entry>() else { continue };
            place.asn = place.asn.or(entry.autonomous_system_number);
            let code = entry.country_code.or(entry.country.and_then(|country| country.iso_code));
            place.country = place.country.or(code.and_then(|code| code.as_bytes().try_into().ok()).map(Country));
        }
    }
}

fn open(file: &Path) -> Result<Reader<Vec<u8>>, MaxMindDbError> {
    Reader::open_readfile(file)
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} databases", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A text as MMDB writes it.
    fn text(text: &str) -> Vec<u8> {
        [&[0x40 | u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
    }

    fn number(kind: u8, value: u32) -> Vec<u8> {
        let bytes = value.to_be_bytes();
        [&[(kind << 5) | 4][..], &bytes].concat()
    }

    fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut out = vec![0xe0 | u8::try_from(entries.len()).unwrap()];
        for (key, value) in entries {
            out.extend(text(key));
            out.extend(value);
        }
        out
    }

    /// A database for IPv4 with one node: addresses up to 127.255.255.255 have one entry, those above none.
    fn database(entry: &[u8]) -> Vec<u8> {
        // One node of two 24-bit records: the first leads to the data section, the second to nothing.
        let (to_data, to_nothing) = (1 + 16_u32, 1_u32);
        let mut bytes = [&to_data.to_be_bytes()[1..], &to_nothing.to_be_bytes()[1..]].concat();
        bytes.extend([0; 16]);
        bytes.extend(entry);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        let unsigned16 = |value: u16| [&[0xa2][..], &value.to_be_bytes()].concat();
        bytes.extend(map(&[
            ("binary_format_major_version", unsigned16(2)),
            ("binary_format_minor_version", unsigned16(0)),
            ("build_epoch", [&[0x08, 0x02][..], &[0; 8]].concat()),
            ("database_type", text("Test")),
            ("description", vec![0xe0]),
            ("ip_version", unsigned16(4)),
            ("languages", vec![0x00, 0x04]),
            ("node_count", number(6, 1)),
            ("record_size", unsigned16(24)),
        ]));
        bytes
    }

    #[test]
    fn networks_and_countries_come_from_as_many_files_as_there_are() {
        let folder = std::env::temp_dir().join(format!("headwater-geo-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, entry: Vec<u8>| {
            let file = folder.join(name);
            fs::write(&file, database(&entry)).unwrap();
            file
        };
        let files = vec![
            write("asn.mmdb", map(&[("autonomous_system_number", number(6, 64_500))])),
            write("country.mmdb", map(&[("country_code", text("DE"))])),
        ];
        let locality = Locality::new(files).unwrap();
        let near = locality.place("10.1.2.3".parse().unwrap());
        assert_eq!((near.asn, near.country), (Some(64_500), Some(Country(*b"DE"))));
        for unknown in ["192.0.2.1", "2001:db8::1"] {
            let place = locality.place(unknown.parse().unwrap());
            assert_eq!((place.asn, place.country, place.pid), (None, None, None), "{unknown}");
            assert!(place.addr.is_some());
        }
        let maxmind = write("maxmind.mmdb", map(&[("country", map(&[("iso_code", text("FR"))]))]));
        let locality = Locality::new(vec![maxmind]).unwrap();
        assert_eq!(locality.place("10.1.2.3".parse().unwrap()).country, Some(Country(*b"FR")));
        let broken = folder.join("broken.mmdb");
        fs::write(&broken, b"nothing of the kind").unwrap();
        assert!(Locality::new(vec![broken]).unwrap_err().to_string().contains("broken.mmdb"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
