//! A program of 32 bits, as the game and steamcmd are: it does what they need of the kernel, and
//! ends with 0 when it got that; 16 when it could set up an io_uring besides.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

// What stands between the two labels is copied into the file. It runs at any address.
std::arch::global_asm!(
    ".pushsection .rodata.program32, \"a\"",
    ".code32",
    ".globl program32_begin",
    "program32_begin:",
    "call 1f",
    "1: pop ebp",
    // Text relocations: its own code becomes writable and stays executable.
    "mov eax, 125",
    "mov ebx, ebp",
    "and ebx, 0xfffff000",
    "mov ecx, 4096",
    "mov edx, 7",
    "int 0x80",
    "mov esi, 11",
    "test eax, eax",
    "jnz 9f",
    // /proc/cpuinfo
    "call 2f",
    ".asciz \"/proc/cpuinfo\"",
    "2: pop ebx",
    "mov eax, 5",
    "xor ecx, ecx",
    "int 0x80",
    "mov esi, 12",
    "test eax, eax",
    "js 9f",
    "mov ebx, eax",
    "mov eax, 3",
    "sub esp, 1024",
    "mov ecx, esp",
    "mov edx, 512",
    "int 0x80",
    "mov esi, 13",
    "test eax, eax",
    "jle 9f",
    // Storage of a thread: set_thread_area with any free entry.
    "mov dword ptr [esp], -1",
    "mov dword ptr [esp + 4], esp",
    "mov dword ptr [esp + 8], 0xfffff",
    "mov dword ptr [esp + 12], 0x51",
    "mov eax, 243",
    "mov ebx, esp",
    "int 0x80",
    "mov esi, 14",
    "test eax, eax",
    "jnz 9f",
    // A socket for players: socketcall(SYS_SOCKET, {{AF_INET, SOCK_DGRAM, 0}}).
    "mov dword ptr [esp], 2",
    "mov dword ptr [esp + 4], 2",
    "mov dword ptr [esp + 8], 0",
    "mov eax, 102",
    "mov ebx, 1",
    "mov ecx, esp",
    "int 0x80",
    "mov esi, 15",
    "test eax, eax",
    "js 9f",
    // io_uring_setup, which no program here needs.
    "lea edi, [esp]",
    "mov ecx, 64",
    "xor eax, eax",
    "cld",
    "rep stosd",
    "mov eax, 425",
    "mov ebx, 1",
    "mov ecx, esp",
    "int 0x80",
    "mov esi, 16",
    "test eax, eax",
    "jns 9f",
    "xor esi, esi",
    "9: mov eax, 1",
    "mov ebx, esi",
    "int 0x80",
    ".globl program32_end",
    "program32_end:",
    ".code64",
    ".popsection",
);

unsafe extern "C" {
    static program32_begin: u8;
    static program32_end: u8;
}

const BASE: u32 = 0x0804_8000;
const HEADERS: u32 = 52 + 32;

/// Writes it to `path` and runs it.
#[expect(clippy::disallowed_methods, reason = "it plays a foreign program")]
pub fn run(path: &str) {
    let begin = &raw const program32_begin;
    // SAFETY: both labels stand in one section, the second behind the first.
    let length = usize::try_from(unsafe { (&raw const program32_end).offset_from(begin) })
        .expect("in order");
    // SAFETY: all that is between them.
    let code = unsafe { std::slice::from_raw_parts(begin, length) };
    let size = HEADERS + u32::try_from(length).expect("small");
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    for word in [1, BASE + HEADERS, 52, 0, 0] {
        elf.extend_from_slice(&u32::to_le_bytes(word));
    }
    for half in [52_u16, 32, 1, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    // One segment, read and executed.
    for word in [1, 0, BASE, BASE, size, size, 5, 4096] {
        elf.extend_from_slice(&u32::to_le_bytes(word));
    }
    elf.extend_from_slice(code);
    let _ = std::fs::remove_file(path);
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(path);
    let ended = made
        .and_then(|mut file| file.write_all(&elf))
        .and_then(|()| std::process::Command::new(path).status());
    match ended {
        Ok(status) => println!("program32: {status}"),
        Err(error) => println!("program32: not run: {error}"),
    }

    let _ = std::fs::remove_file(path);
}
