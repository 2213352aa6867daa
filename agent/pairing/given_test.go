package pairing

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSetupCodeFromAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "setup-code")
	write := func(text string, mode fs.FileMode) {
		t.Helper()
		_ = os.Remove(path)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	code := NewSetupCode()
	for text, mode := range map[string]fs.FileMode{code.Text() + "\n": 0o600, strings.ToLower(code.Text()) + "\r\nthe rest is not read": 0o440, " " + code.Text(): 0o400} {
		write(text, mode)
		if c, err := ReadSetupCode(path); err != nil || c != code {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	for _, c := range []struct {
		what, text string
		mode       fs.FileMode
	}{
		{"others can read it", code.Text(), 0o644}, {"its group can write it", code.Text(), 0o660}, {"nothing", "", 0o600},
		{"mistyped", "A" + code.Text()[:20], 0o600}, {"behind an empty line", "\n" + code.Text(), 0o600},
		{"too far behind", strings.Repeat(" ", maxCodeFile) + code.Text(), 0o600}, {"a disk full", strings.Repeat("A", 1<<20), 0o600},
	} {
		write(c.text, c.mode)
		_, err := ReadSetupCode(path)
		is(t, c.what, err, ErrCodeFile)
		if err != nil && strings.Contains(err.Error(), code.Text()[:9]) {
			t.Errorf("%s: the error quotes the code: %v", c.what, err)
		}
	}
	write(code.Text(), 0o600)
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink(path, link), syscall.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{link, pipe, dir} {
		_, err := ReadSetupCode(p)
		is(t, p, err, ErrCodeFile)
	}
	_, err := ReadSetupCode(filepath.Join(dir, "none"))
	is(t, "no file", err, fs.ErrNotExist)
}

// A code of a file counts once: what was made since stays, also its lock, and another file makes it anew.
func TestProvisioningCountsOnce(t *testing.T) {
	state, path := t.TempDir(), filepath.Join(t.TempDir(), "setup-code")
	code := NewSetupCode()
	good := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	b := startDevice(t, "bob", state)
	is(t, "no file, and never was one", b.Provision(path), fs.ErrNotExist)
	write := func(c SetupCode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(c.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(code)
	good(b.Provision(path))
	if got := must(b.SetupCode(false)); got != code.Text() {
		t.Fatal("the code of the file is not the device's")
	}
	a := newDevice(t, "ada")
	a.knows(b)
	if _, err := a.WithCode(wait(t), b.id.ID, code.Text()); err != nil {
		t.Errorf("pairing with it: %v", err)
	}
	fresh := must(b.SetupCode(true))
	b.stop()
	b = startDevice(t, "bob", state)
	good(b.Provision(path))
	if got := must(b.SetupCode(false)); got != fresh {
		t.Error("a restart brought the code of the file back")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	good(b.Provision(path))
	other := NewSetupCode()
	write(other)
	good(b.Provision(path))
	if got := must(b.SetupCode(false)); got != other.Text() {
		t.Error("another file changed nothing")
	}
}
