package systemd

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxExposure is the highest score of systemd-analyze security that the agent's unit may have, times ten.
const maxExposure = "22"

// program skips the test when a program is missing; make test installs them all.
func program(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs the program %s: apt-get install %s", name, pkg)
	}
	return path
}

// install runs the recipe of make install into a folder of its own. Program and prefix are real paths, as
// systemd-analyze looks at what ExecStart names.
func install(t *testing.T) (destdir, prefix string) {
	t.Helper()
	destdir, prefix = t.TempDir(), filepath.Join(t.TempDir(), "usr")
	recipe(t, "install", destdir, prefix, stub(t))
	if err := os.Symlink(filepath.Join(destdir, prefix), prefix); err != nil {
		t.Fatal(err)
	}
	return destdir, prefix
}

// stub is a program that can be asked for completions as nigh can.
func stub(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nigh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$*\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func recipe(t *testing.T, action, destdir, prefix, binary string) string {
	t.Helper()
	cmd := exec.Command("./install", action)
	cmd.Env = append(os.Environ(), "DESTDIR="+destdir, "PREFIX="+prefix, "BINARY="+binary)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("install %s: %v\n%s", action, err, out)
	}
	return string(out)
}

func TestUnitsVerify(t *testing.T) {
	analyze := program(t, "systemd-analyze", "systemd")
	_, prefix := install(t)
	for _, unit := range []string{"system/nigh@.service", "system/nigh-wifi.service", "user/nigh.service"} {
		kind := "--" + filepath.Dir(unit)
		cmd := exec.Command(analyze, "verify", kind, "--man=no", filepath.Join(prefix, "lib/systemd", unit))
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir()) // that of a user's manager
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("verify %s: %v\n%s", unit, err, out)
		}
		for line := range strings.Lines(string(out)) {
			// What the machine's own units are reproached with is not ours.
			if strings.Contains(line, "nigh") {
				t.Errorf("verify %s: %s", unit, line)
			}
		}
	}
}

func TestUnitExposure(t *testing.T) {
	analyze := program(t, "systemd-analyze", "systemd")
	_, prefix := install(t)
	for _, unit := range []string{"nigh@.service", "nigh-wifi.service"} {
		path := filepath.Join(prefix, "lib/systemd/system", unit)
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+maxExposure, path).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more exposed than %s/10: %v\n%s", unit, maxExposure, err, out)
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
	}
	// The limit itself works: the same unit without its sandbox is over it.
	bare := filepath.Join(t.TempDir(), "nigh-bare.service")
	if err := os.WriteFile(bare, []byte("[Service]\nExecStart=/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(analyze, "security", "--offline=true", "--threshold="+maxExposure, bare).Run(); err == nil {
		t.Error("a unit without a sandbox passes the threshold")
	}
}

func TestInstallAndUninstall(t *testing.T) {
	for _, tt := range []struct {
		prefix string
		want   []string
	}{
		{"/usr/local", []string{
			"etc/NetworkManager/conf.d/90-nigh.conf",
			"etc/dbus-1/system.d/nigh.conf",
			"etc/firewalld/services/nigh.xml",
			"etc/ufw/applications.d/nigh",
			"usr/local/bin/nigh",
			"usr/local/lib/systemd/network/10-nigh-p2p.link",
			"usr/local/lib/systemd/network/10-nigh-p2p.network",
			"usr/local/lib/systemd/system/nigh-wifi.service",
			"usr/local/lib/systemd/system/nigh@.service",
			"usr/local/lib/systemd/user/nigh.service",
			"usr/local/lib/sysusers.d/nigh.conf",
			"usr/local/libexec/nigh/wifi",
			"usr/local/share/bash-completion/completions/nigh",
			"usr/local/share/fish/vendor_completions.d/nigh.fish",
			"usr/local/share/man/man1/nigh.1",
			"usr/local/share/nigh/optional/dbus-1/system.d/zz-nigh.conf",
			"usr/local/share/nigh/optional/firewalld/zones/nigh.xml",
			"usr/local/share/zsh/site-functions/_nigh",
		}},
		{"/usr", []string{
			"etc/ufw/applications.d/nigh",
			"usr/bin/nigh",
			"usr/lib/NetworkManager/conf.d/90-nigh.conf",
			"usr/lib/firewalld/services/nigh.xml",
			"usr/lib/systemd/network/10-nigh-p2p.link",
			"usr/lib/systemd/network/10-nigh-p2p.network",
			"usr/lib/systemd/system/nigh-wifi.service",
			"usr/lib/systemd/system/nigh@.service",
			"usr/lib/systemd/user/nigh.service",
			"usr/lib/sysusers.d/nigh.conf",
			"usr/libexec/nigh/wifi",
			"usr/share/bash-completion/completions/nigh",
			"usr/share/dbus-1/system.d/nigh.conf",
			"usr/share/fish/vendor_completions.d/nigh.fish",
			"usr/share/man/man1/nigh.1",
			"usr/share/nigh/optional/dbus-1/system.d/zz-nigh.conf",
			"usr/share/nigh/optional/firewalld/zones/nigh.xml",
			"usr/share/zsh/site-functions/_nigh",
		}},
	} {
		t.Run(strings.ReplaceAll(tt.prefix, "/", "-"), func(t *testing.T) {
			destdir := t.TempDir()
			program := stub(t)
			recipe(t, "install", destdir, tt.prefix, program)
			if got := tree(t, destdir); !slices.Equal(got, tt.want) {
				t.Errorf("installed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			unit, err := os.ReadFile(filepath.Join(destdir, tt.prefix, "lib/systemd/system/nigh@.service"))
			if err != nil {
				t.Fatal(err)
			}
			if want := "ExecStart=" + tt.prefix + "/bin/nigh agent\n"; !strings.Contains(string(unit), want) {
				t.Errorf("unit lacks %q", want)
			}
			if got := read(t, filepath.Join(destdir, tt.prefix, "share/zsh/site-functions/_nigh")); got != "completion zsh\n" {
				t.Errorf("completions for zsh: %q", got)
			}
			recipe(t, "uninstall", destdir, tt.prefix, program)
			if got := tree(t, destdir); len(got) != 0 {
				t.Errorf("left behind: %v", got)
			}
			if left, err := os.ReadDir(filepath.Join(destdir, tt.prefix, "share/nigh")); err == nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Where /usr cannot be written nothing is half done, and what is wrong is said.
func TestInstallBelowReadOnlyUsr(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a folder read-only, for itself alone")
	}
	destdir := t.TempDir()
	usr := filepath.Join(destdir, "usr")
	if err := os.Mkdir(usr, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec ./install install`, usr)
	cmd.Env = append(os.Environ(), "DESTDIR="+destdir, "BINARY="+stub(t))
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Read-only file system") {
		t.Errorf("install: %v, said: %s", err, out)
	}
	if left := tree(t, destdir); len(left) > 0 {
		t.Errorf("half done: %v", left)
	}
}

// tree lists the files below root.
func tree(t *testing.T, root string) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A firewall's file that does not parse is ignored without a word by firewalld and dbus-daemon alike.
func TestFilesAreWellFormed(t *testing.T) {
	files, err := filepath.Glob("*.xml")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "nigh.dbus.conf", "zz-nigh.dbus.conf")
	if len(files) != 4 {
		t.Fatalf("files: %v", files)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d := xml.NewDecoder(f)
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
		}
	}
}
