fn main() -> std::process::ExitCode {
    left4me::poller::main()
}
