fn main() -> std::process::ExitCode {
    left4me::notify::main()
}
