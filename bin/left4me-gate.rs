fn main() -> std::process::ExitCode {
    left4me::gate::main()
}
