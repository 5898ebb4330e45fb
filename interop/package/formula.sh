#!/usr/bin/env bash
# formula.sh FOLDER: a Homebrew formula for Linux of the archives in FOLDER. It waits for a place where they are
# published, WEBTRUNK_DOWNLOADS.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
downloads=${WEBTRUNK_DOWNLOADS:-https://downloads.example.com/webtrunk}
of() {
  local archive=webtrunk-$version-linux-$1.tar.gz
  [ -f "$2/$archive" ] || return 0
  cat << EOF
    on_$3 do
      url "$downloads/$version/$archive"
      sha256 "$(sha256sum "$2/$archive" | cut -d' ' -f1)"
    end
EOF
}
cat << EOF
class Webtrunk < Formula
  desc "SIP-to-WebRTC gateway: a web page can telephone"
  homepage "$downloads"
  version "$version"
  license any_of: ["MIT", "Apache-2.0"]
  depends_on :linux

  on_linux do
$(of x86_64 "$1" intel)
$(of aarch64 "$1" arm)
  end

  def install
    bin.install "webtrunk"
    man1.install Dir["man/*.1"]
    bash_completion.install "completions/webtrunk.bash" => "webtrunk"
    zsh_completion.install "completions/webtrunk.zsh" => "_webtrunk"
    fish_completion.install "completions/webtrunk.fish"
    inreplace "webtrunk.toml", "/var/lib/webtrunk", var/"webtrunk"
    (etc/"webtrunk").install "webtrunk.toml"
    (etc/"webtrunk/dialplans").install "dialplans/default.toml"
  end

  def post_install
    (var/"webtrunk").mkpath
  end

  service do
    run [opt_bin/"webtrunk", "serve", "-c", etc/"webtrunk/webtrunk.toml"]
    keep_alive true
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/webtrunk --version")
  end
end
EOF
