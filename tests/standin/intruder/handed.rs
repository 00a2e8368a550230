//! What left4me-console could do with a UDP socket that left4me-console-network handed to it.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, connect, recvmsg, sendmsg, sendto,
    setsockopt, sockopt,
};

const GIVER: &str = "/run/left4me-console/network.sock";

/// As many interfaces are tried, by number: their names are not seen here.
const INTERFACES: i32 = 32;

/// Tries to reach `address`, also after the process that gave the socket has ended. Prints
/// `NAME: denied ERRNO` or `NAME: GOT THROUGH`, and `waiting` when that process may be ended.
pub fn all(address: &str) {
    let to: Ipv4Addr = address.parse().expect("an address");
    let (mut giver, udp) = ask();
    report("this host", send(&udp, Ipv4Addr::LOCALHOST, None));
    attack("", &udp, to);

    println!("waiting");
    while giver.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    attack("later, ", &udp, to);
    println!("done");
}

/// As left4me-console asks: with the port 0.
fn ask() -> (UnixStream, OwnedFd) {
    let mut stream = UnixStream::connect(GIVER).expect("a connection");
    stream.write_all(&[0, 0]).expect("a request");
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let mut bytes = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let fd = stream.as_raw_fd();
    let received = recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::empty());
    let received = received.expect("an answer");
    for message in received.cmsgs().expect("ancillary data") {
        if let ControlMessageOwned::ScmRights(sockets) = message {
            // SAFETY: the kernel has just made this descriptor, and nothing else owns it.
            return (stream, unsafe { OwnedFd::from_raw_fd(sockets[0]) });
        }
    }
    panic!("no socket was handed over");
}

fn attack(when: &str, udp: &OwnedFd, to: Ipv4Addr) {
    report(&format!("{when}plainly"), send(udp, to, None));
    for interface in 1..=INTERFACES {
        let name = format!("{when}through interface {interface}");
        report(&name, send(udp, to, Some(interface)));
    }

    for name in ["", "eth0", "host0", "other0"] {
        let bound = setsockopt(udp, sockopt::BindToDevice, &name.into());
        report(
            &format!("{when}bound to '{name}'"),
            bound.and_then(|()| send(udp, to, None)),
        );
    }
    setsockopt(udp, sockopt::Broadcast, &true).ok();
    report(
        &format!("{when}as a broadcast"),
        send(udp, Ipv4Addr::BROADCAST, None),
    );

    let peer = SockaddrIn::from(SocketAddrV4::new(to, 9));
    let connected = connect(udp.as_raw_fd(), &peer);
    let sent =
        connected.and_then(|()| nix::sys::socket::send(udp.as_raw_fd(), b"x", MsgFlags::empty()));
    report(&format!("{when}connected"), sent.map(drop));
    // SAFETY: an address without family ends the connection; it outlives the call.
    unsafe {
        let none = libc::sockaddr {
            sa_family: 0,
            sa_data: [0; 14],
        };
        libc::connect(udp.as_raw_fd(), &raw const none, size_of_val(&none) as u32);
    }
}

fn send(udp: &OwnedFd, to: Ipv4Addr, interface: Option<i32>) -> Result<(), Errno> {
    let to = SockaddrIn::from(SocketAddrV4::new(to, 9));
    let Some(interface) = interface else {
        return sendto(udp.as_raw_fd(), b"x", &to, MsgFlags::empty()).map(drop);
    };
    let through = libc::in_pktinfo {
        ipi_ifindex: interface,
        ipi_spec_dst: libc::in_addr { s_addr: 0 },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let ancillary = [ControlMessage::Ipv4PacketInfo(&through)];
    let parts = [IoSlice::new(b"x")];
    let flags = MsgFlags::empty();
    sendmsg(udp.as_raw_fd(), &parts, &ancillary, flags, Some(&to)).map(drop)
}

fn report(name: &str, sent: Result<(), Errno>) {
    match sent {
        Ok(()) => println!("{name}: GOT THROUGH"),
        Err(errno) => println!("{name}: denied {errno:?}"),
    }
}
