class Rememberizer < Formula
  desc "Command-line client for accounts at Rememberizer"
  homepage "@REPOSITORY@"
  version "0.1.0"
  license "MIT"

  on_macos do
    on_arm do
      url "@REPOSITORY@/releases/download/v#{version}/rememberizer-#{version}-aarch64-apple-darwin.tar.gz"
      sha256 "@SHA256:aarch64-apple-darwin.tar.gz@"
    end
    on_intel do
      url "@REPOSITORY@/releases/download/v#{version}/rememberizer-#{version}-x86_64-apple-darwin.tar.gz"
      sha256 "@SHA256:x86_64-apple-darwin.tar.gz@"
    end
  end
  on_linux do
    on_arm do
      url "@REPOSITORY@/releases/download/v#{version}/rememberizer-#{version}-aarch64-unknown-linux-musl.tar.gz"
      sha256 "@SHA256:aarch64-unknown-linux-musl.tar.gz@"
    end
    on_intel do
      url "@REPOSITORY@/releases/download/v#{version}/rememberizer-#{version}-x86_64-unknown-linux-musl.tar.gz"
      sha256 "@SHA256:x86_64-unknown-linux-musl.tar.gz@"
    end
  end

  def install
    bin.install "rememberizer"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/rememberizer.bash" => "rememberizer"
    zsh_completion.install "completions/_rememberizer"
    fish_completion.install "completions/rememberizer.fish"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/rememberizer --version")
  end
end
