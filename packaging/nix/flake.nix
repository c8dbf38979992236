{
  description = "Command-line client for accounts at Rememberizer";

  inputs.nixpkgs.url = "nixpkgs/nixos-unstable";
  inputs.source = {
    url = "git+@REPOSITORY@?ref=refs/tags/v0.1.0";
    flake = false;
  };

  outputs =
    { nixpkgs, source, ... }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      package =
        pkgs:
        pkgs.rustPlatform.buildRustPackage {
          pname = "rememberizer";
          version = "0.1.0";
          src = source;
          cargoLock.lockFile = source + "/Cargo.lock";
          cargoBuildFlags = [ "--bin=rememberizer" ];
          # The tests open keyrings, terminals and browsers.
          doCheck = false;
          nativeBuildInputs = [ pkgs.installShellFiles ];
          postInstall = ''
            installManPage man/*.1
            installShellCompletion --bash --name rememberizer completions/rememberizer.bash
            installShellCompletion --zsh completions/_rememberizer
            installShellCompletion --fish completions/rememberizer.fish
          '';
          meta = {
            license = pkgs.lib.licenses.mit;
            mainProgram = "rememberizer";
          };
        };
    in
    {
      packages = nixpkgs.lib.genAttrs systems (system: {
        default = package nixpkgs.legacyPackages.${system};
      });
    };
}
