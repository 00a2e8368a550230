fn main() -> std::process::ExitCode {
    left4me::cli::main()
}
