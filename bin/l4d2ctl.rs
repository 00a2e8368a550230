fn main() -> std::process::ExitCode {
    left4me::ctl::main()
}
