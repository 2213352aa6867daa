package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// native is the architecture of the tests: the others differ in what the compiler makes.
var native = arches[slices.IndexFunc(arches, func(a arch) bool { return a.name == "amd64" })]

// trial is the version of the packages that the tests look at, and a later one.
var trial, later = version{"1.2.3", "1.2.3", time.Unix(1_800_000_000, 0).UTC()}, version{"1.2.4", "1.2.4", time.Unix(1_800_000_000, 0).UTC()}

// folder is where the tests' packages are made.
var folder string

// made makes them, once.
var made = sync.OnceValue(func() error { return makeIn(context.Background(), "../../..", folder, trial, formats) })

// madeLater makes a later .deb, once.
var madeLater = sync.OnceValue(func() error {
	return makeIn(context.Background(), "../../..", filepath.Join(folder, "later"), later, []string{"deb"})
})

func makeIn(ctx context.Context, sources, out string, v version, formats []string) error {
	r := release{sources: sources, out: out, version: v, arches: []arch{native}, formats: formats, said: io.Discard}
	return r.make(ctx)
}

// path makes the packages and returns the path of one of their files.
func path(t *testing.T, extension string) string {
	t.Helper()
	if err := made(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "nigh-1.2.3-amd64"+extension)
}

// upgrade returns the path of the later .deb.
func upgrade(t *testing.T) string {
	t.Helper()
	if err := madeLater(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(folder, "later", "nigh-1.2.4-amd64.deb")
}

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "nigh-release-test-"); err != nil {
		panic(err)
	}
	code := m.Run()
	if err := os.RemoveAll(folder); err != nil {
		panic(err)
	}
	os.Exit(code)
}

func text(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func command(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := output(t.Context(), "", env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// needs skips the test when a program is missing; make test installs them all.
func needs(t *testing.T, name, pkg string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs the program %s: apt-get install %s", name, pkg)
	}
}

// What lies in packages is what make install and nigh service put in place below /usr, and documents; nothing else.
func TestPackagesHaveWhatInstallDoes(t *testing.T) {
	destdir := t.TempDir()
	program := filepath.Join(t.TempDir(), "nigh")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, []string{"DESTDIR=" + destdir, "PREFIX=/usr", "BINARY=" + program}, "../../../systemd/install", "install")
	want := []string{
		"usr/share/doc/nigh/README.md", "usr/share/doc/nigh/changelog.gz", "usr/share/doc/nigh/copyright",
		"usr/share/doc/nigh/licences.txt", "usr/share/doc/nigh/nigh.spdx.json",
	}
	for name := range strings.Lines(command(t, nil, "find", destdir, "-type", "f", "-printf", "%P\n")) {
		name = strings.TrimSpace(name)
		if name == "usr/share/man/man1/nigh.1" {
			name += ".gz"
		}
		want = append(want, name)
	}
	slices.Sort(want)
	if got := filesOfAPK(t, path(t, ".apk")); !slices.Equal(got, want) {
		t.Errorf("the .apk has:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i, name := range want {
		want[i] = strings.TrimPrefix(onDebian("/"+name), "/")
	}
	want = append(want, "usr/share/doc/nigh/changelog.Debian.gz", "usr/share/lintian/overrides/nigh")
	slices.Sort(want)
	var got []string
	for line := range strings.Lines(command(t, nil, "dpkg-deb", "-c", path(t, ".deb"))) {
		f := strings.Fields(line)
		if name := strings.TrimPrefix(f[5], "./"); !strings.HasSuffix(name, "/") {
			got = append(got, name)
		}
		if owner := strings.ReplaceAll(f[1], "0/0", "root/root"); owner != "root/root" || f[3] != "2027-01-15" {
			t.Errorf("not root's, or of another day: %s", line)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the .deb has:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if said := command(t, nil, "dpkg-deb", "-f", path(t, ".deb"), "Version", "Architecture", "Depends"); said != "Version: 1.2.3-1\nArchitecture: amd64\n" {
		t.Errorf("fields: %s", said)
	}
}

// The files are the same, too, and the units as they are packaged keep to the goal of systemd-analyze security.
func TestPackagedFiles(t *testing.T) {
	needs(t, "systemd-analyze", "systemd")
	unpacked, destdir := t.TempDir(), t.TempDir()
	command(t, nil, "dpkg-deb", "-x", path(t, ".deb"), unpacked)
	program := filepath.Join(unpacked, "usr/bin/nigh")
	command(t, []string{"DESTDIR=" + destdir, "PREFIX=/usr", "BINARY=" + program}, "../../../systemd/install", "install")
	for name := range strings.Lines(command(t, nil, "find", destdir, "-type", "f", "-printf", "/%P\n")) {
		name = strings.TrimSpace(name)
		if strings.HasSuffix(name, "/nigh.1") {
			continue // compressed in packages
		}
		here, there := filepath.Join(destdir, name), filepath.Join(unpacked, onDebian(name))
		if text(t, here) != text(t, there) {
			t.Errorf("%s is another one in the package", name)
		}
		a, err := os.Stat(here)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.Stat(there); err != nil || a.Mode() != b.Mode() {
			t.Errorf("%s has another mode in the package (%v)", name, err)
		}
	}
	for _, unit := range []string{"nigh@.service", "nigh-wifi.service"} {
		command(t, nil, "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=22", filepath.Join(unpacked, "usr/lib/systemd/system", unit))
	}
}

// filesOfAPK lists the files of an .apk, which is some tar archives, compressed one after the other.
func filesOfAPK(t *testing.T, path string) []string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(text(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg && !strings.HasPrefix(h.Name, ".") {
			names = append(names, h.Name)
		}
	}
	slices.Sort(names)
	return names
}

// The tarball installs itself, without what it was built from.
func TestTarballInstalls(t *testing.T) {
	unpacked, destdir := t.TempDir(), t.TempDir()
	command(t, nil, "tar", "-xzf", path(t, ".tar.gz"), "-C", unpacked)
	top := filepath.Join(unpacked, "nigh-1.2.3-amd64")
	command(t, []string{"DESTDIR=" + destdir}, filepath.Join(top, "systemd", "install"), "install")
	program := filepath.Join(destdir, "usr/local/bin/nigh")
	if said := command(t, nil, program, "version"); !strings.Contains(said, "1.2.3") {
		t.Errorf("version: %s", said)
	}
	if text(t, program) != text(t, filepath.Join(top, "bin", "nigh")) {
		t.Error("another program is installed")
	}
	command(t, []string{"DESTDIR=" + destdir}, filepath.Join(top, "systemd", "install"), "uninstall")
	if left := command(t, nil, "find", destdir, "!", "-type", "d"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// The list of what is in the program names each module that the program itself names, and a licence for each.
func TestListOfParts(t *testing.T) {
	var doc v2_3.Document
	if err := json.Unmarshal([]byte(text(t, path(t, ".spdx.json"))), &doc); err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for _, p := range doc.Packages {
		listed[p.PackageName] = p.PackageVersion
		if p.PackageLicenseDeclared == "" || p.PackageLicenseDeclared == "NOASSERTION" {
			t.Errorf("%s has no licence", p.PackageName)
		}
	}
	unpacked := t.TempDir()
	command(t, nil, "dpkg-deb", "-x", path(t, ".deb"), unpacked)
	licences := text(t, filepath.Join(unpacked, "usr/share/doc/nigh/licences.txt"))
	modules := 0
	for line := range strings.Lines(command(t, nil, "go", "version", "-m", filepath.Join(unpacked, "usr/bin/nigh"))) {
		f := strings.Fields(line)
		if f[0] != "dep" {
			continue
		}
		modules++
		if listed[f[1]] != f[2] {
			t.Errorf("%s %s is in the program, the list has %q", f[1], f[2], listed[f[1]])
		}
		if !strings.Contains(licences, f[1]+" "+f[2]+" (") {
			t.Errorf("the licence of %s is not in the package", f[1])
		}
	}
	if modules < 20 || len(listed) != modules+2 || len(doc.Relationships) != modules+3 { // nigh and Go's library; and the program's file
		t.Errorf("%d modules, %d packages and %d relationships in the list", modules, len(listed), len(doc.Relationships))
	}
	if listed["nigh"] != "1.2.3" || !strings.HasPrefix(listed["stdlib"], "go1.") {
		t.Errorf("the list has nigh %s and Go's library %s", listed["nigh"], listed["stdlib"])
	}
}

// Sources in another folder make the same packages, to the byte. That compilers agree with themselves, on all architectures, is
// what make reproducible shows.
func TestPackagesAreReproducible(t *testing.T) {
	copied, out := t.TempDir(), t.TempDir()
	names := command(t, nil, "git", "-C", "../../..", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `tar -c --null -T - | tar -x -C "$0"`, copied)
	cmd.Dir, cmd.Stdin = "../../..", strings.NewReader(names)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	if err := makeIn(t.Context(), copied, out, trial, formats); err != nil {
		t.Fatal(err)
	}
	path(t, ".deb")
	if here, there := text(t, filepath.Join(folder, "SHA256SUMS")), text(t, filepath.Join(out, "SHA256SUMS")); here != there || strings.Count(here, "\n") != 6 {
		t.Errorf("sums are\n%s and in another folder\n%s", here, there)
	}
}

// Lintian finds no error but the one that has its reason in the package.
func TestLintian(t *testing.T) {
	needs(t, "lintian", "lintian")
	// Its status counts overridden errors too.
	cmd := exec.CommandContext(t.Context(), "lintian", "--allow-root", "--fail-on", "none", "--tag-display-limit", "0", "--show-overrides", path(t, ".deb"))
	said, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(said, []byte("O: nigh: statically-linked-binary")) || bytes.Contains(said, []byte("E: ")) {
		t.Errorf("%v\n%s", err, said)
	}
}
