//! What is particular to files on a drive: what can be wrong with them, what is
//! reported of them, and how fast they are.

use delayline_line::{Durability, EventClass, Medium, MediumEvent, Op};
use delayline_medium::{
    Access, DirectIo, Flash, FlashOptions, IoBackend, Memory, OpenError, ProbeError, Rng,
    ScratchFile, device_rate, findings, mixed_rates, read_rates,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const PAGE: u64 = 4096;

fn dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn write(path: &Path, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Rng::new(len as u64).fill(&mut bytes);
    std::fs::write(path, &bytes).unwrap();
    File::open(path).unwrap().sync_all().unwrap();
    bytes
}

fn refuse(paths: &[&Path], options: &FlashOptions, expect: &str) {
    let (memory, _) = Memory::new(PAGE).unwrap();
    let error = Flash::open(paths, memory, options).unwrap_err().to_string();
    assert!(error.contains(expect), "{error:?} does not say {expect:?}");
}

#[test]
fn what_cannot_be_opened_is_told() {
    let dir = dir();
    let file = dir.path().join("model");
    write(&file, 100);
    let good = FlashOptions::default();
    refuse(&[], &good, "name at least one");
    refuse(&[dir.path()], &good, "not a regular file");
    refuse(
        &[&file, &dir.path().join("none")],
        &good,
        "none: cannot open it: No such file",
    );
    refuse(&[Path::new("/dev/null")], &good, "not a regular file");
    for depth in [0, 4097] {
        refuse(
            &[&file],
            &FlashOptions {
                depth,
                ..FlashOptions::default()
            },
            "expected between 1 and 4096",
        );
    }
}

fn events(flash: &mut Flash) -> Vec<MediumEvent> {
    let mut told = Vec::new();
    flash.events(&mut told);
    assert!(told.iter().all(|event| event.class == EventClass::Fallback));
    told
}

#[test]
fn a_changed_file_is_noticed_and_a_replaced_one_is_not() {
    let dir = dir();
    let paths = ["a", "b"].map(|name| dir.path().join(name));
    for path in &paths {
        write(path, 10 * PAGE as usize);
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }
    let (memory, _) = Memory::new(PAGE).unwrap();
    let flash = Flash::open(&paths, memory, &FlashOptions::default()).unwrap();
    let first = File::options().write(true).open(&paths[0]).unwrap();
    std::fs::write(dir.path().join("new"), "other").unwrap();
    std::fs::rename(dir.path().join("new"), &paths[0]).unwrap();
    assert_eq!(
        flash.changed(),
        None,
        "the old file is still there for who has it open"
    );
    File::options()
        .write(true)
        .open(&paths[1])
        .unwrap()
        .write_all_at(b"x", 0)
        .unwrap();
    assert_eq!(flash.changed(), Some(paths[1].as_path()));
    first.set_len(3).unwrap();
    assert_eq!(flash.changed(), Some(paths[0].as_path()));
}

#[test]
fn open_files_are_read_though_their_names_are_gone() {
    let dir = dir();
    let path = dir.path().join("model");
    let bytes = write(&path, 5 * PAGE as usize + 7);
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (memory, mut region) = Memory::new(8 * PAGE).unwrap();
    let files = vec![(path, file.try_clone().unwrap())];
    let mut flash = Flash::from_files(files, memory.clone(), &FlashOptions::default()).unwrap();
    assert_eq!(flash.lengths(), [bytes.len() as u64]);
    flash.submit(Op::read(1, 0, 0, region.lend(0, 8 * PAGE as u32)));
    let mut done = Vec::new();
    flash.poll(true, &mut done);
    assert_eq!(done[0].result, Ok(bytes.len() as u32));
    let mut got = vec![0; bytes.len()];
    memory.copy_out(0, &mut got);
    assert!(got == bytes);
    let mut odd = [0; 3];
    file.read_exact_at(&mut odd, 5)
        .expect("direct I/O is off for the other user of the file");
    assert_eq!(odd, bytes[5..8]);
    let stats = flash.stats();
    assert_eq!(
        (stats.reads.ops, stats.reads.bytes),
        (1, bytes.len() as u64)
    );
    assert!(stats.busy_ns > 0 && stats.rate_bytes_per_s() > 0.0);
    assert!(stats.reads.latency_ns >= stats.reads.longest_ns && stats.reads.longest_ns > 0);
    assert_eq!(flash.stats(), stats, "idle time is not busy time");
}

#[test]
fn a_read_that_fails_names_its_file() {
    let dir = dir();
    let path = dir.path().join("model");
    write(&path, 10 * PAGE as usize);
    for backend in [IoBackend::Auto, IoBackend::Threads] {
        let (memory, mut region) = Memory::new(PAGE).unwrap();
        let options = FlashOptions {
            backend,
            ..FlashOptions::default()
        };
        let mut flash = Flash::open(&[&path], memory, &options).unwrap();
        // No file reaches this far: the system refuses the offset itself.
        let offset = 1 << 63;
        flash.submit(Op::read(1, 0, offset, region.lend(0, PAGE as u32)));
        let mut done = Vec::new();
        flash.poll(true, &mut done);
        let error = done[0].result.as_ref().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let error = error.to_string();
        assert!(
            error.contains("model: read of 4096 bytes at 9223372036854775808 failed: Invalid"),
            "{error}"
        );
    }
}

#[test]
fn registered_memory_is_kept_while_the_medium_lives() {
    let dir = dir();
    let path = dir.path().join("model");
    write(&path, PAGE as usize);
    let (memory, _) = Memory::new(2 * PAGE).unwrap();
    let register = Some(0..PAGE).into_iter().collect();
    let options = FlashOptions {
        depth: 1,
        register,
        ..FlashOptions::default()
    };
    let flash = Flash::open(&[&path], memory.clone(), &options).unwrap();
    memory.discard(PAGE..2 * PAGE);
    let registered = flash.to_string().contains("registered");
    let caught = std::panic::catch_unwind(|| memory.discard(0..PAGE));
    assert_eq!(caught.is_err(), registered, "{flash}");
    drop(flash);
    memory.discard(0..2 * PAGE);
}

#[test]
fn a_drive_is_measured_and_left_as_it_was() {
    let dir = dir();
    let short = Duration::from_millis(5);
    let lens = [PAGE as u32, 1 << 20];
    let rates = read_rates(dir.path(), 4 << 20, &lens, &[1, 4], short).unwrap();
    let cells: Vec<_> = rates.iter().map(|row| (row.read_len, row.depth)).collect();
    assert_eq!(cells, [(4096, 1), (1 << 20, 1), (4096, 4), (1 << 20, 4)]);
    assert!(rates.iter().all(|row| row.rate_bytes_per_s > 0.0));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the file is gone"
    );

    let scratch = ScratchFile::write(dir.path(), 8 << 20).unwrap();
    let rates = mixed_rates(&scratch, &[100, 50], short).unwrap();
    let shares: Vec<u32> = rates.iter().map(|row| row.written_percent).collect();
    assert_eq!(shares, [100, 50]);
    assert!(rates.iter().all(|row| row.rate_bytes_per_s > 0.0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let (big, small) = (dir.path().join("big"), dir.path().join("small"));
    write(&big, 9 << 20);
    write(&small, 100);
    assert!(device_rate(&[&small, &big], short).unwrap() > 0.0);
    let error = device_rate(&[&small], short).unwrap_err();
    assert!(matches!(
        error,
        ProbeError::TooSmall {
            have: 100,
            need: 4_194_304
        }
    ));
}

#[test]
fn findings_are_of_the_file() {
    let dir = dir();
    let path = dir.path().join("model");
    write(&path, 100 * PAGE as usize);
    let found = findings(&path).unwrap();
    assert!(!found.file_system.is_empty());
    let (memory, _) = Memory::new(PAGE).unwrap();
    let options = FlashOptions {
        backend: IoBackend::Uring,
        ..FlashOptions::default()
    };
    let opened = Flash::open(&[&path], memory, &options);
    assert_eq!(found.io_uring.is_ok(), opened.is_ok());
    assert!(opened.is_ok() || matches!(opened, Err(OpenError::NoUring { .. })));
}

/// Has the kernel refuse a system call to this thread and those it starts, with this
/// error.
fn forbid(call: libc::c_long, error: i32) {
    let rule = |code: u32, k, jf| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut rules = [
        // The number of the system call is the first word of the filter's input.
        rule(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        rule(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 1),
        rule(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | error as u32,
            0,
        ),
        rule(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog {
        len: rules.len() as u16,
        filter: rules.as_mut_ptr(),
    };
    // SAFETY: the program and its rules live across the calls, which copy them;
    // all the filter changes is that one system call of this thread fails.
    let rc = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn threads_take_over_where_io_uring_is_forbidden() {
    let dir = dir();
    let path = dir.path().join("model");
    let bytes = write(&path, 3 * PAGE as usize);
    let forbidden = move || {
        forbid(libc::SYS_io_uring_setup, libc::EPERM);
        let (memory, mut region) = Memory::new(4 * PAGE).unwrap();
        let uring = FlashOptions {
            backend: IoBackend::Uring,
            ..FlashOptions::default()
        };
        let error = Flash::open(&[&path], memory.clone(), &uring).unwrap_err();
        assert!(matches!(error, OpenError::NoUring { .. }), "{error}");
        let reason = findings(&path).unwrap().io_uring.unwrap_err();
        assert!(reason.contains("not permitted"), "{reason}");

        let options = FlashOptions {
            depth: 3,
            ..FlashOptions::default()
        };
        let mut flash = Flash::open(&[&path], memory.clone(), &options).unwrap();
        let told = events(&mut flash);
        let about_it = |event: &&MediumEvent| {
            let message = &event.message;
            message.contains("io_uring is not available") && message.contains("with 3 threads")
        };
        assert_eq!(told.iter().filter(about_it).count(), 1, "{told:?}");
        assert!(!flash.has_uring());
        flash.submit(Op::read(1, 0, 0, region.lend(0, 4 * PAGE as u32)));
        flash.poll(true, &mut Vec::new());
        let mut got = vec![0; bytes.len()];
        memory.copy_out(0, &mut got);
        assert!(got == bytes);
    };
    std::thread::spawn(forbidden).join().unwrap();
}

#[test]
fn a_file_system_without_direct_io_is_read_all_the_same_and_told_of_once() {
    // sysfs has no direct I/O, and these bytes never change while it runs.
    let path = Path::new("/sys/kernel/notes");
    let Ok(bytes) = std::fs::read(path) else {
        delayline_testing::cannot_run(format!("there is no {}", path.display()));
        return;
    };
    assert_eq!(findings(path).unwrap().direct_io, DirectIo::Refused);
    let (memory, mut region) = Memory::new(bytes.len() as u64).unwrap();
    let mut flash = Flash::open(&[path], memory.clone(), &FlashOptions::default()).unwrap();
    assert_eq!(flash.access(), [Access::Buffered]);
    let [told] = &events(&mut flash)[..] else {
        panic!("one fallback, told once");
    };
    assert!(
        told.message
            .contains("notes: its file system refuses direct I/O"),
        "{told}"
    );
    assert_eq!(events(&mut flash), []);
    flash.submit(Op::read(1, 0, 0, region.lend(0, memory.len() as u32)));
    let mut done = Vec::new();
    flash.poll(true, &mut done);
    assert_eq!(done[0].result, Ok(bytes.len() as u32));
    let mut got = vec![0; bytes.len()];
    memory.copy_out(0, &mut got);
    assert!(got == bytes);
}

/// The bytes of a file, read without the medium.
fn on_disk(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn files_are_created_sized_written_and_settled() {
    for backend in [IoBackend::Auto, IoBackend::Threads] {
        for access in [Access::Direct, Access::Buffered] {
            let dir = dir();
            let files = [
                (dir.path().join("a"), 8 * PAGE),
                (dir.path().join("b"), PAGE),
            ];
            let (memory, mut region) = Memory::new(8 * PAGE).unwrap();
            let options = FlashOptions {
                depth: 4,
                backend,
                access,
                register: Some(0..4 * PAGE).into_iter().collect(),
            };
            let mut flash = Flash::create(&files, memory.clone(), &options).unwrap();
            assert_eq!(flash.lengths(), [8 * PAGE, PAGE]);
            let caps = flash.caps();
            assert!(caps.writable && caps.durability == Durability::Synced);
            for (path, len) in &files {
                assert_eq!(on_disk(path), vec![0; *len as usize]);
            }
            // With registered memory, and without.
            let mut bytes = vec![0; 8 * PAGE as usize];
            Rng::new(3).fill(&mut bytes);
            memory.copy_in(0, &bytes);
            flash.submit(Op::write(1, 0, 0, region.lend(0, 4 * PAGE as u32)));
            flash.submit(Op::write(
                2,
                0,
                4 * PAGE,
                region.lend(4 * PAGE, 4 * PAGE as u32),
            ));
            let mut done = Vec::new();
            while done.len() < 2 {
                flash.poll(true, &mut done);
            }
            flash.submit(Op::sync(3, 0));
            flash.submit(Op::sync(4, 1));
            while done.len() < 4 {
                flash.poll(true, &mut done);
            }
            for done in &done {
                let expect = if done.id < 3 { 4 * PAGE as u32 } else { 0 };
                assert_eq!(done.result, Ok(expect), "{flash}");
            }
            assert_eq!(on_disk(&files[0].0), bytes, "{flash}");
            assert_eq!(flash.changed(), None, "its own writes are no change");
            let stats = flash.stats();
            assert_eq!((stats.writes.ops, stats.writes.bytes), (2, 8 * PAGE));
            assert_eq!((stats.syncs.ops, stats.syncs.errors), (2, 0));
            drop(flash);
            let paths = [&files[0].0, &files[1].0];
            let again = Flash::open_for_writing(&paths, memory, &options).unwrap();
            assert_eq!(again.lengths(), [8 * PAGE, PAGE]);
        }
    }
}

#[test]
fn what_cannot_be_created_is_told_and_leaves_nothing() {
    let dir = dir();
    let create = |name: &str, len: u64| {
        let (memory, _) = Memory::new(PAGE).unwrap();
        let path = dir.path().join(name);
        let made = Flash::create(&[(&path, len)], memory, &FlashOptions::default());
        made.map(drop).unwrap_err()
    };
    for len in [0, 1, PAGE + 512] {
        let error = create("odd", len);
        assert!(matches!(error, OpenError::Length { .. }), "{error}");
    }
    write(&dir.path().join("there"), 10);
    let error = create("there", PAGE).to_string();
    assert!(
        error.contains("there: cannot create a file of 4096 bytes: File exists"),
        "{error}"
    );
    // More than any drive has, and more than a file can have.
    for (name, len) in [("huge", 1 << 55), ("over", 1 << 63)] {
        let error = create(name, len);
        let OpenError::Create { source, .. } = &error else {
            panic!("{error}")
        };
        let kinds = [
            std::io::ErrorKind::StorageFull,
            std::io::ErrorKind::FileTooLarge,
        ];
        assert!(kinds.contains(&source.kind()), "{error}");
        assert!(!dir.path().join(name).exists(), "{error}");
    }
    let names = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(names, 1, "only what was there before");
}

#[test]
fn a_file_without_permission_to_write_is_refused_when_it_is_opened() {
    let (memory, _) = Memory::new(PAGE).unwrap();
    let running = std::env::current_exe().unwrap();
    let error = Flash::open_for_writing(&[&running], memory, &FlashOptions::default()).unwrap_err();
    let OpenError::Part { source, .. } = &error else {
        panic!("{error}")
    };
    // A program that runs cannot be opened for writing.
    assert_eq!(
        source.kind(),
        std::io::ErrorKind::ExecutableFileBusy,
        "{error}"
    );
}

/// Opens `path`, calls `refuse`, and reads all of it; its bytes and the medium.
fn reads_all(path: &Path, len: u32, refuse: impl Fn(&mut Flash)) -> (Vec<u8>, Flash) {
    let (memory, mut region) = Memory::new(u64::from(len)).unwrap();
    let mut flash = Flash::open(&[path], memory.clone(), &FlashOptions::default()).unwrap();
    refuse(&mut flash);
    let mut done = Vec::new();
    for page in 0..u64::from(len) / PAGE {
        let to = region.lend(page * PAGE, PAGE as u32);
        flash.submit(Op::read(page, 0, page * PAGE, to));
    }
    while done.len() < (u64::from(len) / PAGE) as usize {
        flash.poll(true, &mut done);
    }
    for completion in &done {
        assert!(completion.result.is_ok(), "{:?}", completion.result);
    }
    let mut got = vec![0; len as usize];
    memory.copy_out(0, &mut got);
    (got, flash)
}

#[test]
fn threads_take_over_whichever_call_of_io_uring_is_refused_and_whenever() {
    let dir = dir();
    let path = dir.path().join("model");
    let bytes = write(&path, 8 * PAGE as usize);
    let (setup, enter) = (libc::SYS_io_uring_setup, libc::SYS_io_uring_enter);
    let register = libc::SYS_io_uring_register;
    let errors = [libc::EPERM, libc::ENOSYS];
    let cases = [setup, enter, register]
        .into_iter()
        .flat_map(|call| errors.map(|error| (call, error)))
        .chain([(enter, libc::EAGAIN)]);
    for (call, error) in cases {
        let (path, bytes) = (path.clone(), bytes.clone());
        let judged = std::thread::spawn(move || {
            let had = reads_all(&path, bytes.len() as u32, |_| ()).1.has_uring();
            // Refused while it is in use; a ring needs no more registering then.
            let later = |flash: &mut Flash| {
                _ = events(flash);
                forbid(call, error);
            };
            let (got, mut flash) = reads_all(&path, bytes.len() as u32, later);
            assert!(got == bytes, "{call} {error} later");
            let told = events(&mut flash);
            let expect = usize::from(had && call == enter);
            assert_eq!(told.len(), expect, "{call} {error}: {told:?}");
            assert_eq!(flash.has_uring(), had && call != enter, "{call} {error}");
            // And from the start.
            let (got, mut flash) = reads_all(&path, bytes.len() as u32, |_| ());
            assert!(got == bytes, "{call} {error}");
            assert!(!flash.has_uring(), "{call} {error}");
            let told = events(&mut flash);
            assert!(
                told.iter()
                    .any(|event| event.message.contains("io_uring is not available")),
                "{told:?}"
            );
        });
        judged.join().unwrap();
    }
}
