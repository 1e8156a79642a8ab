//! Sockets on this machine.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::*;

fn lines(address: &str, listen: bool) -> JobSpec {
    let kind = SourceKind::Socket { address: address.into(), listen };
    job(kind, Format::Text, schema(&["value"]))
}

fn start(job: &JobSpec) -> Ingest {
    let setup = setup(1, 1 << 20, Choice::Uring);
    Ingest::start_with(job, select_all(job), &setup, None).unwrap()
}

#[test]
fn a_client_reads_lines_as_they_come_and_connects_again() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ingest = start(&lines(&server.local_addr().unwrap().to_string(), false));
    let (mut peer, _) = server.accept().unwrap();
    let mut taken = Taken::default();
    peer.write_all(b"one\ntwo\nthr").unwrap();
    take_rows(&mut ingest, 2, &mut taken);
    assert_eq!(taken.texts(), ["one", "two"], "a row waits for its end");
    peer.write_all(b"ee\nfour").unwrap();
    drop(peer);
    take_rows(&mut ingest, 4, &mut taken);
    let (mut peer, _) = server.accept().unwrap();
    peer.write_all(b"five\n").unwrap();
    take_rows(&mut ingest, 5, &mut taken);
    assert_eq!(taken.texts(), ["one", "two", "three", "four", "five"]);
    while !ingest.signal().status().caught_up {
        ingest.signal().wait(Some(Instant::now() + Duration::from_millis(10)));
    }
    assert!(!ingest.signal().status().ended, "a socket has no end");
    ingest.stop();
}

#[test]
fn a_barrier_does_not_wait_for_bytes() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut ingest = start(&lines(&server.local_addr().unwrap().to_string(), false));
    let (mut peer, _) = server.accept().unwrap();
    peer.write_all(b"half a row").unwrap();
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(ingest.barrier(None).unwrap().rows, 0);
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }
}

#[test]
fn a_listener_takes_several_peers() {
    let mut ingest = start(&lines("127.0.0.1:0", true));
    let address = ingest.address().unwrap();
    let mut peers: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
    for round in 0..20 {
        for (number, peer) in peers.iter_mut().enumerate() {
            // A row in two parts, so that rows of several peers are open at once.
            write!(peer, "{number}").unwrap();
            peer.flush().unwrap();
            if round % 5 == number {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        for peer in &mut peers {
            writeln!(peer, " {round}").unwrap();
        }
    }
    drop(peers);
    let mut taken = Taken::default();
    take_rows(&mut ingest, 100, &mut taken);
    for number in 0..5 {
        let own = taken.texts().into_iter().filter(|row| row.starts_with(&format!("{number} ")));
        let expected: Vec<String> = (0..20).map(|round| format!("{number} {round}")).collect();
        assert!(own.eq(expected.iter()), "the rows of peer {number} are in order");
    }
}

#[test]
fn a_full_epoch_holds_the_sender_back() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut job = lines(&server.local_addr().unwrap().to_string(), false);
    job.epoch.max_rows = Some(10);
    let mut ingest = start(&job);
    let (mut peer, _) = server.accept().unwrap();
    (0..25).for_each(|row| writeln!(peer, "{row}").unwrap());
    let mut taken = Taken::default();
    for _ in 0..2 {
        while !ingest.signal().wait(Some(Instant::now() + Duration::from_secs(1))).full {
            assert!(taken.epochs.len() < 9, "the epoch of ten rows was never full");
        }
        taken.add(ingest.barrier(None).unwrap());
    }
    take_rows(&mut ingest, 25, &mut taken);
    assert!(taken.epochs.iter().all(|&rows| rows <= 10), "{:?}", taken.epochs);
    let expected: Vec<String> = (0..25).map(|row| row.to_string()).collect();
    assert_eq!(taken.texts(), expected);
}

#[test]
fn a_head_and_errors_belong_to_their_peer() {
    let kind = SourceKind::Socket { address: "127.0.0.1:0".into(), listen: true };
    let dialect = CsvDialect { header: Header::Match, ..CsvDialect::default() };
    let mut ingest = start(&job(kind, Format::Csv(dialect), schema(&["n", "a"])));
    let address = ingest.address().unwrap();
    let mut first = TcpStream::connect(address).unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    first.write_all(b"a,n\nx,1\n").unwrap();
    second.write_all(b"n,a\n\n2,y\nbad,z\n").unwrap();
    drop((first, second));
    let mut taken = Taken::default();
    take_rows(&mut ingest, 3, &mut taken);
    taken.rows.sort();
    assert_eq!(taken.rows, [["1", "x"], ["2", "y"]]);
    assert_eq!(taken.dead_letters[0].line, 4);
}

#[test]
fn a_port_that_nobody_listens_on_is_told_with_the_fix() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let job = lines(&format!("127.0.0.1:{port}"), false);
    let setup = setup(1, 1 << 20, Choice::Uring);
    let error = Ingest::start_with(&job, select_all(&job), &setup, None).err().unwrap();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains(&format!("such as `nc -lk {port}`")), "{error}");
}
