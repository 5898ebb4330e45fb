#!/usr/bin/env bash
# dist.sh: everything of a release, into target/package, from a clean tree: for x86-64 and arm64 a static binary (musl)
# with its manual pages and completions as an archive, .deb, .rpm and OCI image; packages for npm, the Helm chart, the
# Homebrew formula, a bill of materials, and the sums of all.
#   DIST_TARGETS   which of the two; both where it is not set
#   DIST_BINARY    a binary that is there, for this machine alone, instead of building
#   DIST_PROFILE   that of cargo; `demo` tries all of this in a quarter of the time
#   NATIVE         a binary of this machine, which writes the manual where only the other target is built
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
if [ -z "${DIST_BINARY:-}" ] && [ -n "$(git status --porcelain)" ]; then
  echo "the tree is not clean: commit first, so that it is known what a release is made of" >&2
  git status --short >&2
  exit 1
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
out=${DIST_OUT:-$root/target/package}
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The manual and the completions are the same everywhere, and a binary of this machine writes them.
native=${DIST_BINARY:-${NATIVE:-}}
targets=${DIST_TARGETS:-x86_64-unknown-linux-musl aarch64-unknown-linux-musl}
[ -z "${DIST_BINARY:-}" ] || targets=$(rustc -vV | sed -n 's/^host: //p')
# What is missing is said at once and together, not after each quarter of an hour of building.
have() { command -v "$1" > /dev/null; }
missing=()
have rpmbuild || missing+=(rpm)
have umoci || missing+=(umoci)
if [ -z "${DIST_BINARY:-}" ]; then
  have npm || missing+=(npm)
  have cmake || missing+=(cmake)
  case " $targets " in *" x86_64-unknown-linux-musl "*) have musl-gcc || missing+=(musl-tools) ;; esac
  case " $targets " in
    *" aarch64-unknown-linux-musl "*)
      have aarch64-linux-gnu-gcc || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
      have qemu-aarch64-static || missing+=(qemu-user-static)
      have aarch64-linux-musl-gcc || missing+=(musl-dev:arm64)
      ;;
  esac
fi
case " ${missing[*]} " in *:arm64*) before="dpkg --add-architecture arm64 && apt-get update && " ;; *) before="" ;; esac
[ ${#missing[@]} = 0 ] || { echo "needed first: ${before}apt-get install ${missing[*]}" >&2; exit 1; }
made=()
if [ -z "${DIST_BINARY:-}" ]; then
  make packages
  cp target/packages/*.tgz "$out/"
  made+=($(cd target/packages && ls ./*.tgz))
  interop/deny.sh sbom
  [ "$out" -ef target/package ] || mv target/package/webtrunk.cdx.json "$out/"
  made+=(webtrunk.cdx.json)
fi
for target in $targets; do
  binary=${DIST_BINARY:-}
  if [ -z "$binary" ]; then
    interop/package/static.sh "$target" "${DIST_PROFILE:-release}"
    binary=$root/target/package/$target/webtrunk
  fi
  case $target in
    x86_64-*) arch=x86_64 deb=amd64 ;;
    aarch64-*) arch=aarch64 deb=arm64 ;;
  esac
  [ -n "$native" ] || native=$binary
  "$native" --version > /dev/null 2>&1 ||
    { echo "$native does not run here: name this machine's target first, or a binary in NATIVE" >&2; exit 1; }
  name=webtrunk-$version-linux-$arch
  mkdir -p "$work/$name/completions" "$work/$name/dialplans"
  install -m755 "$binary" "$work/$name/webtrunk"
  "$native" man --dir "$work/$name/man"
  for shell in bash zsh fish; do "$native" completions $shell > "$work/$name/completions/webtrunk.$shell"; done
  cp LICENSE-MIT LICENSE-APACHE README.md interop/package/webtrunk.toml "$work/$name/"
  cp interop/package/default.toml "$work/$name/dialplans/"
  cp -r interop/systemd "$work/$name/"
  # The same files have the same archive, whenever it is made.
  tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -cf - "$name" |
    gzip "-${PACKED_LIGHTLY:-9}n" > "$out/$name.tar.gz"
  KEEP_SYMBOLS=1 NATIVE=$native interop/package/deb.sh "$binary" "$out" "$deb" > /dev/null
  interop/package/rpm.sh "$out/webtrunk_${version}_$deb.deb" "$out"
  interop/package/image.sh "$binary" "$out/$name.oci.tar" "$deb"
  made+=("$name.tar.gz" "webtrunk_${version}_$deb.deb" "webtrunk-$version.$arch.rpm" "$name.oci.tar")
done
tar -C interop/helm --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -czf "$out/webtrunk-chart-$version.tgz" webtrunk
made+=("webtrunk-chart-$version.tgz")
interop/package/formula.sh "$out" > "$out/webtrunk.rb"
made+=(webtrunk.rb)
(cd "$out" && sha256sum "${made[@]#./}" > SHA256SUMS && sha256sum --check --quiet SHA256SUMS)
echo "a release of $version, in $out:"
cat "$out/SHA256SUMS"
