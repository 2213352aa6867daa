package main

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// foreign is a package of a system that is not Debian, taken apart as its package manager does it.
type foreign struct {
	extension string
	unpack    string // shell: lays the files of $1 out in $2, with what the manager keeps for itself
	// Who runs a script when, as the shell has it from standard input with arguments; "" = the manager runs none then.
	install, upgrade, before, after func(t *testing.T, pkg, unpacked string) (text string, args []string)
}

// foreigners are RPM's scripts with the number of versions that are left, Alpine's with versions, and Arch's functions.
var foreigners = []foreign{
	{
		".rpm", `busybox rpm2cpio "$1" | (cd "$2" && busybox cpio -idm --quiet)`,
		ofRPM(tagPostInstall, "1"), ofRPM(tagPostInstall, "2"), ofRPM(tagPreRemove, "0"), ofRPM(tagPostRemove, "0"),
	},
	{
		".apk", `tar --warning=no-unknown-keyword -xzf "$1" -C "$2"`,
		ofAPK(".post-install"), ofAPK(".post-upgrade"), ofAPK(".pre-deinstall"), ofAPK(".post-deinstall"),
	},
	{
		".pkg.tar.zst", `zstd -dcq "$1" | tar -x -C "$2"`,
		ofArch("post_install"), ofArch("post_upgrade"), ofArch("pre_remove"), ofArch("post_remove"),
	},
}

// Tags of an RPM's header (https://rpm-software-management.github.io/rpm/manual/tags.html).
const (
	tagPostInstall = 1024
	tagPreRemove   = 1025
	tagPostRemove  = 1026
)

func ofRPM(tag uint32, left string) func(*testing.T, string, string) (string, []string) {
	return func(t *testing.T, pkg, _ string) (string, []string) {
		t.Helper()
		return rpmText(t, []byte(text(t, pkg)), tag), []string{left}
	}
}

func ofAPK(name string) func(*testing.T, string, string) (string, []string) {
	return func(t *testing.T, _, unpacked string) (string, []string) {
		t.Helper()
		return text(t, filepath.Join(unpacked, name)), []string{"1.2.3-r1", "1.2.2-r1"}
	}
}

func ofArch(function string) func(*testing.T, string, string) (string, []string) {
	return func(t *testing.T, _, unpacked string) (string, []string) {
		t.Helper()
		return text(t, filepath.Join(unpacked, ".INSTALL")) + "\n" + function + " \"$@\"\n", []string{"1.2.3-1", "1.2.2-1"}
	}
}

// rpmText returns a text of an RPM's header, which follows the lead and the header of signatures.
func rpmText(t *testing.T, raw []byte, tag uint32) string {
	t.Helper()
	const lead, intro, entry = 96, 16, 16
	header := func(at int) (index []byte, store, end int) {
		if string(raw[at:at+3]) != "\x8e\xad\xe8" {
			t.Fatalf("no header of an RPM at byte %d", at)
		}
		entries, size := int(binary.BigEndian.Uint32(raw[at+8:])), int(binary.BigEndian.Uint32(raw[at+12:]))
		store = at + intro + entries*entry
		return raw[at+intro : store], store, store + size
	}
	_, _, end := header(lead)
	index, store, _ := header((end + 7) / 8 * 8)
	for ; len(index) > 0; index = index[entry:] {
		if binary.BigEndian.Uint32(index) == tag {
			value, _, _ := strings.Cut(string(raw[store+int(binary.BigEndian.Uint32(index[8:])):]), "\x00")
			return value
		}
	}
	t.Fatalf("the RPM has no tag %d", tag)
	panic("unreachable")
}

// The packages that are not Debian's have the files that the .apk is known to have, and their scripts, run as their managers do on
// a small system without systemd, make the group, go through an upgrade, and leave nothing behind.
func TestForeignPackages(t *testing.T) {
	needs(t, "zstd", "zstd")
	want := filesOfAPK(t, path(t, ".apk"))
	for _, f := range foreigners {
		t.Run(f.extension, func(t *testing.T) {
			root := smallSystem(t)
			pkg, unpacked := path(t, f.extension), t.TempDir()
			command(t, nil, "sh", "-c", f.unpack, "sh", pkg, unpacked)
			var files []string
			for line := range strings.Lines(command(t, nil, "find", unpacked, "-type", "f", "-printf", "%m %u:%g %P\n")) {
				f := strings.Fields(line)
				if strings.HasPrefix(f[2], ".") { // the manager's
					continue
				}
				files = append(files, f[2])
				mode := "644"
				if f[2] == "usr/bin/nigh" || f[2] == "usr/libexec/nigh/wifi" {
					mode = "755"
				}
				if f[0] != mode || f[1] != "root:root" {
					t.Errorf("in the package: %s", line)
				}
			}
			if slices.Sort(files); !slices.Equal(files, want) {
				t.Errorf("it has: %s", cmp.Diff(want, files))
			}

			before := everything(t, root)
			run := func(part func(*testing.T, string, string) (string, []string)) {
				t.Helper()
				script, args := part(t, pkg, unpacked)
				cmd := exec.CommandContext(t.Context(), "chroot", append([]string{root, "/bin/sh", "-s", "--"}, args...)...)
				cmd.Stdin = strings.NewReader(script)
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Errorf("%v: %s", err, out)
				}
			}
			for _, name := range files {
				command(t, nil, "install", "-D", filepath.Join(unpacked, name), filepath.Join(root, name))
			}
			run(f.install)
			if group := text(t, filepath.Join(root, "etc/group")); !strings.Contains(group, "\nnigh:") {
				t.Errorf("no group nigh:\n%s", group)
			}
			wants := filepath.Join(root, "etc/systemd/system/multi-user.target.wants/nigh@ana.service")
			if err := os.Symlink("/usr/lib/systemd/system/nigh@.service", wants); err != nil {
				t.Fatal(err)
			}
			run(f.upgrade)
			if _, err := os.Lstat(wants); err != nil {
				t.Errorf("an upgrade forgets what starts at boot: %v", err)
			}
			run(f.before)
			for _, name := range files {
				if err := os.Remove(filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
				for folder := filepath.Dir(name); folder != "." && !slices.Contains(before, "d "+folder+" "); folder = filepath.Dir(folder) {
					_ = os.Remove(filepath.Join(root, folder)) // others are in it
				}
			}
			run(f.after)
			if difference := cmp.Diff(before, everything(t, root)); difference != "" {
				t.Errorf("it leaves, or takes away, what was not nigh's (-before +after):\n%s", difference)
			}
			if group := text(t, filepath.Join(root, "etc/group")); group != "root:x:0:\nana:x:1000:\n" {
				t.Errorf("groups afterwards:\n%s", group)
			}
		})
	}
}
