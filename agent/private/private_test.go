package private

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestDirMakesAndNarrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	if err := Dir(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Dir(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode = %o, want 700", got)
	}
}

func TestDirRefusesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Dir(path); err == nil {
		t.Error("a file passed as the state folder")
	}
}

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, want := range []bool{true, false} {
		repaired, err := File(f)
		if err != nil || repaired != want {
			t.Errorf("File = %v, %v, want %v", repaired, err, want)
		}
	}
	info, _ := f.Stat()
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode = %o, want 600", got)
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := File(d); !errors.Is(err, ErrUnsafe) {
		t.Errorf("a folder as a file: %v", err)
	}
}

func TestOthersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to give a file away")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := File(f); !errors.Is(err, ErrUnsafe) {
		t.Errorf("another user's file: %v", err)
	}
	if err := os.Chown(dir, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	defer os.Chown(dir, 0, 0)
	if err := Dir(dir); !errors.Is(err, ErrUnsafe) {
		t.Errorf("another user's folder: %v", err)
	}
}
