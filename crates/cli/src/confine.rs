//! Confines a server before it serves: it may open the model's files and files about the
//! machine, and nothing else; it starts no program, makes no connection, and maps no new
//! code. So a request or a file that takes it over gains little. Landlock confines files, a
//! filter of system calls (seccomp) the rest.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use delayline_engine::{HotnessFile, ModelFile, seal_path};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd,
    RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What the kernel is asked to enforce; older ones enforce what they know of it.
const KNOWN: ABI = ABI::V6;

/// Files about the machine: its memory, cgroup, processors and drives; of processes only
/// this one.
const MACHINE: [&str; 4] = ["/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/sys"];

/// Calls for programs, other processes, other machines and the kernel itself; and for new
/// rings, because the server has its own by then.
const NEVER: [i64; 41] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_bpf,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_acct,
    libc::SYS_quotactl,
];

/// The consequence of not confining, for people.
pub const WITHOUT: &str = "who takes the server over, by a request or a file, can open other \
                           files, start programs and connect to other machines";

/// What was confined by [`files`]. It has to live as long as the process reads files about
/// itself.
pub struct Confined {
    /// Whether the kernel enforces it for files.
    pub files: bool,
    /// The rule for a folder of `/proc` holds only while that folder is open.
    _own: Option<File>,
}

/// A folder that belongs to the server.
#[derive(Clone, Copy, Debug)]
pub enum Own<'a> {
    /// For reading.
    Read(&'a Path),
    /// For writing as well; it is made if it is not there.
    Write(&'a Path),
}

/// From now on this thread, and those that it starts, can open only the model and files
/// about the machine, for reading, and what is in `own`. Where the list of hot experts of a
/// mixture has no name yet, they can also add a file to its folder, but not open it. A header
/// out of proportion to `budget`, in bytes, is refused.
///
/// # Errors
/// When the model cannot be opened, the folder not be made, or the kernel has Landlock and
/// refuses its use.
pub fn files(
    model: &Path,
    own: Option<Own>,
    hotness: Option<&HotnessFile>,
    budget: u64,
) -> Result<Confined> {
    let file = ModelFile::open_within(model, budget)?;
    let seals = file.parts().iter().map(|part| seal_path(&part.path));
    let mut paths: Vec<PathBuf> = MACHINE.map(PathBuf::from).into();
    paths.push(model.to_owned());
    paths.extend(file.paths());
    paths.extend(seals);
    let mut written = None;
    match own {
        Some(Own::Write(own)) => {
            let told = || format!("cannot make the folder {}", own.display());
            delayline_kv::make(own).with_context(told)?;
            written = Some(own);
        }
        Some(Own::Read(own)) => paths.push(own.to_owned()),
        None => {}
    }
    let is_mixture = file.facts().experts > 0;
    let added = hotness.filter(|hotness| is_mixture && !hotness.has_name());
    let folder = added.and_then(|hotness| hotness.path().parent());
    let folder = folder.map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    let status = hold_files(&paths, written, folder)
        .context("the kernel has Landlock and refuses to use it")?;
    Ok(Confined {
        files: status.ruleset != RulesetStatus::NotEnforced,
        _own: File::open("/proc/self").ok(),
    })
}

/// Allows only reading `paths`, everything but execution in `own`, and adding files to
/// `folder`.
fn hold_files(
    paths: &[PathBuf],
    own: Option<&Path>,
    folder: Option<&Path>,
) -> Result<RestrictionStatus> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    // A path that is not there, such as a seal or `/proc` in a container, needs no rule.
    for opened in paths.iter().filter_map(|path| PathFd::new(path).ok()) {
        rules = rules.add_rule(PathBeneath::new(opened, read))?;
    }
    if let Some(own) = own {
        let all = AccessFs::from_all(KNOWN) & !AccessFs::Execute;
        rules = rules.add_rule(PathBeneath::new(PathFd::new(own)?, all))?;
    }
    if let Some(folder) = folder {
        rules = rules.add_rule(PathBeneath::new(PathFd::new(folder)?, AccessFs::MakeReg))?;
    }
    Ok(rules.restrict_self()?)
}

/// From now on the system calls that a server has no use for fail with EPERM in every
/// thread of the process.
///
/// # Errors
/// When the kernel has no filters, or a filter of another kind is in the way.
pub fn calls() -> Result<()> {
    // The flags of `clone3` are in memory, where a filter cannot look. With ENOSYS the C
    // library falls back to `clone`.
    let clone3 = vec![(libc::SYS_clone3, Vec::new())];
    for (rules, error) in [(clone3, libc::ENOSYS), (refused()?, libc::EPERM)] {
        let filter: BpfProgram = SeccompFilter::new(
            rules.into_iter().flat_map(in_each_abi).collect(),
            SeccompAction::Allow,
            SeccompAction::Errno(error as u32),
            std::env::consts::ARCH.try_into()?,
        )?
        .try_into()?;
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(())
}

/// A system call, and the arguments with which it is refused: any where there is no rule.
type Refused = (i64, Vec<SeccompRule>);

/// On x86-64 kernels may know each call by a second number, that of x32.
fn in_each_abi((call, rules): Refused) -> impl Iterator<Item = Refused> {
    let second = cfg!(target_arch = "x86_64").then(|| (call | 0x4000_0000, rules.clone()));
    std::iter::once((call, rules)).chain(second)
}

fn refused() -> Result<Vec<Refused>> {
    let mut rules: Vec<Refused> = NEVER.iter().map(|&call| (call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_fork, libc::SYS_vfork].map(|call| (call, Vec::new())));
    let has = |argument, bits: libc::c_int| {
        let bits = bits as u64;
        let op = SeccompCmpOp::MaskedEq(bits);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, bits)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.push((call, vec![has(2, libc::PROT_EXEC)?]));
    }
    // Without CLONE_THREAD it is a new process.
    let lacks = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64),
        0,
    )?;
    rules.push((libc::SYS_clone, vec![SeccompRule::new(vec![lacks])?]));
    Ok(rules)
}
