//! Who pushed a record first, on disk.

use dir_core::index::{Change, RecordIndex};
use dir_core::{Clock, Timestamp};
use dir_index::{SledConfig, SledIndex, open_or_set_aside};
use dir_testkit::index_conformance::{cid, named};

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }
}

/// Owners are on disk with their rows; from an index that is damaged they are handed on, and wait for the rebuild.
#[tokio::test]
async fn owners_survive_a_kill_and_a_damaged_index() {
    let dir = tempfile::tempdir().unwrap();
    let put = |n: u64, owner: Option<&str>| Change::Put {
        cid: cid(n),
        facts: named("x"),
        at: Timestamp(1),
        event: None,
        owner: owner.map(Into::into),
    };
    let index = SledIndex::open(SledConfig::new(dir.path().join("index"))).unwrap();
    index.apply((0..200).map(|n| put(n, Some(&format!("spiffe://a.example/{n}")))).collect()).await.unwrap();
    // Not closed: what was acknowledged is there.
    drop(index);
    let path = dir.path().join("index");
    {
        let db = sled::open(path.join("db")).unwrap();
        // The row of a record that came in the first millisecond, and the owner behind the row of another.
        let key = |n: u64, end: &[u8]| {
            let digest = *cid(n).digest();
            let came = (1_u64 | 1 << 63).to_be_bytes();
            [b"R", &[digest[0] % 8][..], &came, &digest, end].concat()
        };
        for key in [key(7, b""), key(8, b"o")] {
            assert!(db.insert(&key[..], b"nonsense".as_slice()).unwrap().is_some());
        }
        db.flush().unwrap();
    }
    let opened = open_or_set_aside(SledConfig::new(dir.path().join("index")), &Noon).unwrap();
    assert!(opened.set_aside.is_some() && opened.index.is_empty());
    let index = opened.index;
    index.apply((0..200).map(|n| put(n, None)).collect()).await.unwrap();
    for n in 0..200 {
        let owner = index.owner(&cid(n)).await.unwrap().map(|owner| owner.to_string());
        assert_eq!(owner, (n != 8).then(|| format!("spiffe://a.example/{n}")));
    }
}
