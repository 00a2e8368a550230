//! The attacks, each a call or two. Those of 32 bits go through `int 0x80`, which any 64-bit
//! program can use.

use std::ffi::CString;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::libc::{self, c_long};

use crate::Attack;

/// The process that [`ON_ANOTHER`] is about.
pub static TARGET: AtomicI32 = AtomicI32::new(1);

/// io_uring_setup(2), with the same number everywhere.
const IO_URING: [c_long; 3] = [425, 426, 427];

/// Address families that nothing of left4me needs.
const VSOCK: c_long = 40;
const ALG: c_long = 38;

/// A system call of this architecture: what it gives, or the negative error.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        // SAFETY: every pointer among the arguments is to memory that outlives the call, or meant
        // to be refused.
        let given = unsafe { libc::syscall($number $(, $argument)*) };
        if given == -1 { -i64::from(Errno::last_raw()) } else { given }
    }};
}

/// A system call of 32-bit x86.
fn call32(number: u32, arguments: [u32; 3]) -> i64 {
    let given: u32;
    // SAFETY: the kernel saves every register but the first; rbx belongs to LLVM, so it is
    // exchanged by hand.
    unsafe {
        std::arch::asm!(
            "xchg {first:r}, rbx", "int 0x80", "xchg {first:r}, rbx",
            first = inout(reg) u64::from(arguments[0]) => _,
            inlateout("eax") number => given,
            in("ecx") arguments[1], in("edx") arguments[2], in("esi") 0, in("edi") 0,
        );
    }

    i64::from(given.cast_signed())
}

/// Zeroed memory below 4 GiB, where a 32-bit call can point to.
fn low(text: &str) -> u32 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    // SAFETY: a new mapping of one page, larger than any text here.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        )
    };

    // SAFETY: the page has just been made, and is writable.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), page.cast(), text.len().min(4095)) };
    u32::try_from(page as usize).expect("below 4 GiB")
}

fn socket(family: c_long) -> i64 {
    call!(libc::SYS_socket, family, c_long::from(libc::SOCK_STREAM), 0)
}

/// The one socket call of 32 bits: the family stands in memory, where no filter sees it.
fn socket32(family: u32) -> i64 {
    let words = low("");
    // SAFETY: `words` is a page of our own.
    unsafe { std::ptr::copy_nonoverlapping([family, 2, 0].as_ptr(), words as *mut u32, 3) };
    call32(102, [1, words, 0])
}

/// A file of our own in the place for temporary files; where there is none, in the working
/// directory.
fn scratch(name: &str) -> CString {
    let there = |dir: &&str| nix::unistd::access(*dir, nix::unistd::AccessFlags::W_OK).is_ok();
    let dir = ["/tmp", "/var/tmp", "/dev/shm", "."]
        .into_iter()
        .find(there)
        .unwrap_or(".");
    CString::new(format!("{dir}/intruder.{name}.{}", std::process::id())).expect("no NUL")
}

fn file(name: &str) -> CString {
    let path = scratch(name);
    let _ = std::fs::write(path.to_str().expect("text"), "x");
    path
}

/// The call, then the file is removed.
fn removed(path: &CString, given: i64) -> i64 {
    let _ = std::fs::remove_file(path.to_str().expect("text"));
    let _ = std::fs::remove_dir(path.to_str().expect("text"));
    given
}

fn made_setuid(call: impl FnOnce(&CString) -> i64) -> i64 {
    let path = file("setuid");
    let given = call(&path);
    removed(&path, given)
}

/// Whether a copy of a program can be run from any place that we can write.
fn executed(how: impl Fn(&str) -> i64) -> i64 {
    let places = [
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        "/dev/mqueue",
        "/run",
        "/run/lock",
        ".",
    ];

    let data = ["", "/db", "/instances", "/tmp", "/backups", "/runtime"]
        .map(|below| format!("/var/lib/left4me{below}"));
    let mut best = -i64::from(libc::ENOENT);
    for place in places.into_iter().chain(data.iter().map(String::as_str)) {
        let path = CString::new(format!("{place}/intruder.program")).expect("no NUL");
        let name = path.to_str().expect("text");
        if std::env::current_exe()
            .and_then(|own| std::fs::copy(own, name))
            .is_ok()
        {
            best = best.max(how(name));
        }
        removed(&path, 0);
    }

    best
}

/// An open file of our own, in any place that we can write, as executable memory.
fn executed_in_place(name: &str) -> i64 {
    let path = CString::new(name).expect("no NUL");
    let fd = call!(libc::SYS_open, path.as_ptr(), libc::O_RDWR);
    i32::try_from(fd).map_or(fd, |fd| {
        if fd < 0 {
            fd.into()
        } else {
            mapped(READ_EXEC, libc::MAP_SHARED, fd)
        }
    })
}

fn mapped(protection: i32, flags: i32, fd: i32) -> i64 {
    call!(libc::SYS_mmap, 0, 4096, protection, flags, fd, 0)
}

fn exec(path: &str) -> i64 {
    run(&[path, "ok"])
}

/// Whether a program can be run: in a child, because this one has more to try.
#[expect(clippy::disallowed_methods, reason = "it plays a foreign program")]
fn run(words: &[&str]) -> i64 {
    let status = std::process::Command::new(words[0])
        .args(&words[1..])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => 0,
        Ok(_) => -i64::from(libc::ENOEXEC),
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EPERM)),
    }
}

/// A copy of ourselves in memory; the descriptor.
fn in_memory() -> i64 {
    let fd = call!(libc::SYS_memfd_create, c"x".as_ptr(), 0);
    let Ok(number) = i32::try_from(fd) else {
        return fd;
    };
    if number >= 0 {
        let own = std::env::current_exe()
            .and_then(std::fs::read)
            .unwrap_or_default();
        let _ = std::fs::write(format!("/proc/self/fd/{number}"), own);
    }

    fd
}

/// A place that is not there: a call that complains about it has passed the filter, and has changed
/// nothing.
const NOWHERE: &std::ffi::CStr = c"/intruder/nowhere";

const NONE: *const u8 = std::ptr::null();
const READ_WRITE_EXEC: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
const READ_EXEC: i32 = libc::PROT_READ | libc::PROT_EXEC;
const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// Every attack. None changes anything outside of its own process, even where nothing stops it.
pub const ALL: &[(&str, Attack)] = &[
    // Around the filter itself.
    ("io_uring_setup", || {
        let mut params = [0_u64; 32];
        call!(IO_URING[0], 1, params.as_mut_ptr())
    }),
    ("io_uring_enter", || {
        past_the_filter(call!(IO_URING[1], -1, 0, 0, 0, 0), libc::EBADF)
    }),
    ("io_uring_register", || {
        past_the_filter(call!(IO_URING[2], -1, 1, 0, 0), libc::EBADF)
    }),
    ("io_uring_setup, 32 bits", || call32(425, [1, low(""), 0])),
    ("x32", || call!(0x4000_0000 + libc::SYS_getpid)),
    ("any call of 32 bits", || call32(20, [0; 3])),
    // Address families.
    ("AF_VSOCK", || socket(VSOCK)),
    ("AF_ALG", || socket(ALG)),
    ("AF_PACKET", || socket(c_long::from(libc::AF_PACKET))),
    ("AF_BLUETOOTH", || socket(31)),
    ("AF_NETLINK", || {
        call!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0)
    }),
    ("AF_INET", || socket(c_long::from(libc::AF_INET))),
    ("AF_INET6", || socket(c_long::from(libc::AF_INET6))),
    ("AF_ALG, 32 bits", || socket32(38)),
    // Files with the setuid bit.
    ("chmod 4755", || {
        made_setuid(|path| call!(libc::SYS_chmod, path.as_ptr(), 0o4755))
    }),
    ("chmod 2755", || {
        made_setuid(|path| call!(libc::SYS_chmod, path.as_ptr(), 0o2755))
    }),
    ("fchmodat 4755", || {
        made_setuid(|path| call!(libc::SYS_fchmodat, libc::AT_FDCWD, path.as_ptr(), 0o4755))
    }),
    ("fchmodat2 4755", || {
        made_setuid(|path| call!(452, libc::AT_FDCWD, path.as_ptr(), 0o4755, 0))
    }),
    ("chmod 4755, 32 bits", || {
        made_setuid(|path| call32(15, [low(path.to_str().expect("text")), 0o4755, 0]))
    }),
    ("fchmodat2 4755, 32 bits", || {
        made_setuid(|path| {
            call32(
                452,
                [
                    libc::AT_FDCWD.cast_unsigned(),
                    low(path.to_str().expect("text")),
                    0o4755,
                ],
            )
        })
    }),
    ("open 4755", || {
        let path = scratch("open");
        removed(
            &path,
            call!(
                libc::SYS_open,
                path.as_ptr(),
                libc::O_CREAT | libc::O_WRONLY,
                0o4755
            ),
        )
    }),
    ("openat2 4755", || {
        let (path, how) = (
            scratch("openat2"),
            [
                u64::from((libc::O_CREAT | libc::O_WRONLY).cast_unsigned()),
                0o4755,
                0,
            ],
        );
        removed(
            &path,
            call!(
                libc::SYS_openat2,
                libc::AT_FDCWD,
                path.as_ptr(),
                how.as_ptr(),
                24
            ),
        )
    }),
    ("mknod 4755", || {
        let path = scratch("mknod");
        removed(
            &path,
            call!(libc::SYS_mknod, path.as_ptr(), libc::S_IFREG | 0o4755, 0),
        )
    }),
    ("mkdir 2755", || {
        let path = scratch("mkdir");
        let given = call!(libc::SYS_mkdir, path.as_ptr(), 0o2755);
        // mkdir itself drops the bit; only a filter refuses.
        removed(&path, given)
    }),
    ("a FIFO", || {
        let path = scratch("fifo");
        removed(
            &path,
            call!(libc::SYS_mknod, path.as_ptr(), libc::S_IFIFO | 0o600, 0),
        )
    }),
    ("a device", || {
        let path = scratch("device");
        removed(
            &path,
            call!(
                libc::SYS_mknod,
                path.as_ptr(),
                libc::S_IFCHR | 0o600,
                libc::makedev(1, 1)
            ),
        )
    }),
    // Programs from places that can be written.
    ("a program in a temporary file", || executed(exec)),
    ("the loader with that file", || {
        executed(|path| run(&["/lib64/ld-linux-x86-64.so.2", path, "ok"]))
    }),
    ("a program in memory", || match in_memory() {
        fd if fd < 0 => fd,
        fd => exec(&format!("/proc/self/fd/{fd}")),
    }),
    ("execveat", || match in_memory() {
        fd if fd < 0 => fd,
        fd => {
            let words = [c"x".as_ptr(), c"ok".as_ptr(), std::ptr::null()];
            call!(
                libc::SYS_execveat,
                fd,
                c"".as_ptr(),
                words.as_ptr(),
                NONE,
                libc::AT_EMPTY_PATH
            )
        }
    }),
    ("/bin/sh", || run(&["/bin/sh", "-c", "exit 0"])),
    // Memory that is both written and executed.
    ("mmap write and execute", || {
        mapped(READ_WRITE_EXEC, ANONYMOUS, -1)
    }),
    ("mprotect execute", || {
        let page = mapped(libc::PROT_READ | libc::PROT_WRITE, ANONYMOUS, -1);
        call!(libc::SYS_mprotect, page, 4096, READ_EXEC)
    }),
    ("shmat execute", || {
        let id = call!(libc::SYS_shmget, 0, 4096, 0o1700);
        let given = call!(libc::SYS_shmat, id, 0, libc::SHM_EXEC);
        call!(libc::SYS_shmctl, id, libc::IPC_RMID, 0);
        given
    }),
    ("mmap execute of a temporary file", || {
        executed(executed_in_place)
    }),
    ("mmap execute of a file in memory", || match in_memory() {
        fd if fd < 0 => fd,
        fd => mapped(READ_EXEC, libc::MAP_SHARED, i32::try_from(fd).unwrap_or(-1)),
    }),
    ("personality READ_IMPLIES_EXEC", || {
        call!(libc::SYS_personality, 0x40_0000)
    }),
    // Namespaces and mounts.
    ("unshare user", || {
        call!(libc::SYS_unshare, libc::CLONE_NEWUSER)
    }),
    ("unshare mount", || {
        call!(libc::SYS_unshare, libc::CLONE_NEWNS)
    }),
    ("unshare, 32 bits", || {
        call32(310, [libc::CLONE_NEWUSER.cast_unsigned(), 0, 0])
    }),
    ("clone user", || {
        let given = call!(
            libc::SYS_clone,
            libc::CLONE_NEWUSER | libc::SIGCHLD,
            0,
            0,
            0,
            0
        );
        if given == 0 { leave() } else { given }
    }),
    ("clone3 user", || {
        let mut arguments = [0_u64; 11];
        arguments[0] = u64::from(libc::CLONE_NEWUSER.cast_unsigned());
        let given = call!(libc::SYS_clone3, arguments.as_mut_ptr(), 88);
        if given == 0 { leave() } else { given }
    }),
    ("setns", || {
        let fd = call!(libc::SYS_open, c"/proc/self/ns/mnt".as_ptr(), 0);
        call!(libc::SYS_setns, fd, 0)
    }),
    ("mount", || {
        let given = call!(
            libc::SYS_mount,
            c"x".as_ptr(),
            NOWHERE.as_ptr(),
            c"tmpfs".as_ptr(),
            0,
            NONE
        );
        past_the_filter(given, libc::ENOENT)
    }),
    ("umount", || {
        past_the_filter(call!(libc::SYS_umount2, NOWHERE.as_ptr(), 0), libc::ENOENT)
    }),
    ("fsopen", || call!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0)),
    ("open_tree", || {
        call!(libc::SYS_open_tree, libc::AT_FDCWD, c"/".as_ptr(), 1)
    }),
    ("mount_setattr", || {
        let given = call!(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            NOWHERE.as_ptr(),
            0,
            [1_u64, 0, 0, 0].as_ptr(),
            32
        );
        past_the_filter(given, libc::ENOENT)
    }),
    ("pivot_root", || {
        past_the_filter(
            call!(libc::SYS_pivot_root, NOWHERE.as_ptr(), NOWHERE.as_ptr()),
            libc::ENOENT,
        )
    }),
    ("chroot", || {
        past_the_filter(call!(libc::SYS_chroot, NOWHERE.as_ptr()), libc::ENOENT)
    }),
    // The kernel's large doors.
    ("bpf", || call!(libc::SYS_bpf, 0, [0_u64; 16].as_ptr(), 128)),
    ("perf_event_open", || {
        call!(
            libc::SYS_perf_event_open,
            [0_u64; 16].as_ptr(),
            0,
            -1,
            -1,
            0
        )
    }),
    ("userfaultfd", || call!(libc::SYS_userfaultfd, 1)),
    ("add_key", || {
        call!(
            libc::SYS_add_key,
            c"user".as_ptr(),
            c"x".as_ptr(),
            c"x".as_ptr(),
            1,
            -3
        )
    }),
    ("request_key", || {
        call!(
            libc::SYS_request_key,
            c"user".as_ptr(),
            c"x".as_ptr(),
            NONE,
            0
        )
    }),
    ("keyctl", || call!(libc::SYS_keyctl, 0, -3, 1)),
    ("open_by_handle_at", || {
        call!(
            libc::SYS_open_by_handle_at,
            libc::AT_FDCWD,
            [8_u32, 1, 0, 0].as_ptr(),
            0
        )
    }),
    ("fanotify_init", || call!(libc::SYS_fanotify_init, 0x200, 0)),
    ("memfd_secret", || call!(447, 0)),
    ("modify_ldt", || {
        call!(libc::SYS_modify_ldt, 0, [0_u8; 16].as_ptr(), 16)
    }),
    ("ioperm", || call!(libc::SYS_ioperm, 0x80, 1, 1)),
    ("init_module", || {
        call!(libc::SYS_init_module, NONE, 0, c"".as_ptr())
    }),
    ("kexec_load", || {
        past_the_filter(call!(libc::SYS_kexec_load, 0, 0, 0, 0xffff), libc::EINVAL)
    }),
    ("reboot", || {
        past_the_filter(call!(libc::SYS_reboot, 0, 0, 0, 0), libc::EINVAL)
    }),
    ("swapon", || {
        past_the_filter(call!(libc::SYS_swapon, NOWHERE.as_ptr(), 0), libc::ENOENT)
    }),
    ("sethostname", || {
        past_the_filter(call!(libc::SYS_sethostname, NONE, -1), libc::EINVAL)
    }),
    ("settimeofday", || {
        past_the_filter(
            call!(libc::SYS_settimeofday, [-1_i64, -1].as_ptr(), NONE),
            libc::EINVAL,
        )
    }),
    ("the kernel's log", || {
        call!(libc::SYS_syslog, 3, [0_u8; 64].as_ptr(), 64)
    }),
    ("quotactl_fd", || {
        past_the_filter(call!(443, -1, 0, 0, 0), libc::EBADF)
    }),
    ("setuid 0", || call!(libc::SYS_setuid, 0)),
    // A larger share of the machine.
    ("realtime", || {
        call!(libc::SYS_sched_setscheduler, 0, 1, [1_i32].as_ptr())
    }),
    ("nice -20", || call!(libc::SYS_setpriority, 0, 0, -20)),
    ("ioprio realtime", || {
        call!(libc::SYS_ioprio_set, 1, 0, 1 << 13)
    }),
    ("sched_setaffinity", || {
        call!(libc::SYS_sched_setaffinity, 0, 8, [1_u64].as_ptr())
    }),
    ("more open files", || {
        call!(
            libc::SYS_prlimit64,
            0,
            libc::RLIMIT_NOFILE,
            [1_u64 << 30, 1_u64 << 30].as_ptr(),
            NONE
        )
    }),
];

/// On one process that is not ours to look into.
pub const ON_ANOTHER: &[(&str, Attack)] = &[
    ("ptrace", || {
        call!(libc::SYS_ptrace, libc::PTRACE_ATTACH, target(), 0, 0)
    }),
    ("process_vm_readv", || {
        let mut byte = [0_u8; 8];
        let (ours, theirs) = ([byte.as_mut_ptr() as usize, 8], [0x40_0000_usize, 8]);
        past_the_filter(
            call!(
                libc::SYS_process_vm_readv,
                target(),
                ours.as_ptr(),
                1,
                theirs.as_ptr(),
                1,
                0
            ),
            libc::EFAULT,
        )
    }),
    ("pidfd_getfd", || {
        let pidfd = call!(libc::SYS_pidfd_open, target(), 0);
        call!(438, pidfd, 3, 0)
    }),
    ("kcmp", || {
        call!(libc::SYS_kcmp, target(), std::process::id(), 0, 3, 0)
    }),
];

fn target() -> i32 {
    TARGET.load(Ordering::Relaxed)
}

/// A complaint about the arguments says that no filter refused the call: that counts as let
/// through.
fn past_the_filter(given: i64, complaint: i32) -> i64 {
    if given == -i64::from(complaint) {
        0
    } else {
        given
    }
}

fn leave() -> ! {
    // SAFETY: a child that only has to go.
    unsafe { libc::_exit(0) }
}
