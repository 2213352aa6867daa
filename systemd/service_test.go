package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What nigh service puts in place is what make install does, to the byte.
func TestInstallAsMakeDoes(t *testing.T) {
	manual, err := os.ReadFile("../cli/nigh.1")
	if err != nil {
		t.Fatal(err)
	}
	byMake, byNigh, program := t.TempDir(), t.TempDir(), stub(t)
	recipe(t, "install", byMake, DefaultPrefix, program)
	s := Setup{Program: program, Manual: string(manual), Root: byNigh, User: "nobody-in-particular"}
	if _, err := Install(t.Context(), s); !errors.Is(err, ErrUser) {
		t.Fatalf("for a user that is none: %v", err)
	}
	s.User = ""
	for range 2 { // the second is an update
		if said, err := Install(t.Context(), s); err != nil || !strings.Contains(said, "systemctl enable --now nigh@USER") {
			t.Fatalf("%v, said %q", err, said)
		}
	}
	names := tree(t, byMake)
	if got := tree(t, byNigh); !slices.Equal(got, names) || len(names) == 0 {
		t.Fatalf("installed:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(names, "\n"))
	}
	for _, name := range names {
		want, got := file(t, filepath.Join(byMake, name)), file(t, filepath.Join(byNigh, name))
		if want != got {
			t.Errorf("%s is another one", name)
		}
	}
	if _, err := Remove(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, byNigh); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// file is mode and content.
func file(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().String() + "\n" + string(text)
}

// The program that is where it belongs already installs all but itself.
func TestInstallItself(t *testing.T) {
	root := t.TempDir()
	program := filepath.Join(root, DefaultPrefix, "bin", "nigh")
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), Setup{Program: program, Root: root}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(program); err != nil || !os.SameFile(before, after) {
		t.Errorf("the program is another file (%v)", err)
	}
}

// A home that is not /home/USER gets a drop-in that systemd reads.
func TestHomesElsewhere(t *testing.T) {
	if got := dropIn("ana", "/home/ana"); got != "" {
		t.Errorf("for an ordinary home: %s", got)
	}
	analyze := program(t, "systemd-analyze", "systemd")
	_, prefix := install(t)
	for home, want := range map[string]string{
		"/root":            "BindPaths=/root\n",
		"/home/people/ana": "BindPaths=/home/people/ana\n",
		"/homes/ana":       "ReadWritePaths=/homes/ana\n",
		"/srv/a b%c":       `ReadWritePaths=/srv/a\x20b%%c` + "\n",
	} {
		text := dropIn("ana", home)
		if !strings.HasSuffix(text, "[Service]\n"+want) {
			t.Errorf("%s: %s", home, text)
		}
		dir := t.TempDir()
		unit := filepath.Join(dir, "nigh@.service")
		if err := os.WriteFile(unit, []byte(strings.SplitN(file(t, filepath.Join(prefix, "lib/systemd/system/nigh@.service")), "\n", 2)[1]), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(unit+".d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(unit+".d", "nigh-home.conf"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
		if err != nil || strings.Contains(string(out), "nigh-home.conf") {
			t.Errorf("verify with %s: %v\n%s", home, err, out)
		}
	}
}

// Without systemd or rights nothing is changed, and what is missing is said.
func TestServiceOnThisMachine(t *testing.T) {
	if Running() {
		t.Skip("systemd runs this machine; lab/vm has the test for that")
	}
	if _, err := Install(t.Context(), Setup{Program: "/bin/sh"}); !errors.Is(err, ErrNoSystemd) {
		t.Errorf("install: %v", err)
	}
	if _, err := Remove(t.Context(), Setup{}); !errors.Is(err, ErrNoSystemd) {
		t.Errorf("remove: %v", err)
	}
	if _, err := Status(t.Context(), "ana"); !errors.Is(err, ErrNoSystemd) {
		t.Errorf("status: %v", err)
	}
}
