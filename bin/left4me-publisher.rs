fn main() -> std::process::ExitCode {
    left4me::publisher::main()
}
