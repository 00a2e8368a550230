fn main() -> std::process::ExitCode {
    left4me::console::main()
}
