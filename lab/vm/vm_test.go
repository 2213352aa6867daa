package vm

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// needGuest skips tests that boot guests or build a cache, unless they are asked for: each takes a minute of both processors.
func needGuest(t *testing.T) string {
	t.Helper()
	if os.Getenv("NIGH_LAB_VM") != "1" {
		t.Skip("boots virtual machines: set NIGH_LAB_VM=1")
	}
	cache, err := CacheFolder()
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// TestDamagedCache damages a cache in every way that a disk or a user does, and expects it whole again each time.
func TestDamagedCache(t *testing.T) {
	cache := needGuest(t)
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	if _, err := Prepare(t.Context(), cache, logger); err != nil {
		t.Fatal(err)
	}
	// The packages are the larger part: the copy starts with those of the user's own cache.
	own := t.TempDir()
	if err := os.CopyFS(filepath.Join(own, "debs"), os.DirFS(filepath.Join(cache, "debs"))); err != nil {
		t.Fatal(err)
	}
	first, err := Prepare(t.Context(), own, logger)
	if err != nil || !first.Built {
		t.Fatalf("empty cache: %+v, %v", first, err)
	}
	debs, err := filepath.Glob(filepath.Join(own, "debs/linux-image-*.deb"))
	if err != nil || len(debs) != 1 {
		t.Fatal(debs, err)
	}
	flip := func(path string) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		var b [1]byte
		if _, err := f.ReadAt(b[:], 4000); err != nil {
			return err
		}
		b[0] ^= 1
		_, err = f.WriteAt(b[:], 4000)
		return err
	}
	folder := filepath.Dir(first.set.folder)
	begin := time.Now()
	if p, err := Prepare(t.Context(), own, logger); err != nil || p.Built {
		t.Fatalf("whole cache was built again: %+v, %v", p, err)
	}
	t.Logf("whole cache checked in %v", time.Since(begin))
	for name, damage := range map[string]func() error{
		"one bit of the initramfs": func() error { return flip(first.Initramfs) },
		"kernel truncated":         func() error { return os.Truncate(first.Kernel, 1000) },
		"module list removed": func() error {
			return os.Remove(filepath.Join(first.Root, "lib/modules", first.Version, "modules.dep"))
		},
		"file too many":      func() error { return os.WriteFile(filepath.Join(first.Root, "etc/evil"), nil, 0o644) },
		"manifest truncated": func() error { return os.Truncate(filepath.Join(folder, "manifest.json"), 100) },
		"no parts":           func() error { return os.RemoveAll(filepath.Join(folder, "parts")) },
		"parts and package damaged": func() error {
			return errors.Join(flip(first.Kernel), flip(debs[0]))
		},
	} {
		if err := damage(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p, err := Prepare(t.Context(), own, logger); err != nil || !p.Built {
			t.Fatalf("%s: %+v, %v", name, p, err)
		}
		m, err := readManifest(folder)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := verify(t.Context(), filepath.Join(folder, "parts"), m.Files); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

func boot(t *testing.T) *Machine {
	t.Helper()
	cache := needGuest(t)
	parts, err := Prepare(t.Context(), cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Boot(t.Context(), Config{Parts: parts, Folders: []string{t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(m.folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("folder is left: %v", err)
		}
	})
	return m
}

// TestGuest runs many commands in one guest, and ends with one that hangs.
func TestGuest(t *testing.T) {
	m := boot(t)
	host := filepath.Join(t.TempDir(), "of-the-host")
	if err := os.WriteFile(host, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		c      Command
		status int
		output string
	}{
		{"output", Command{Args: []string{"printf", `a\0b\nc`}}, 0, "a\x00b\nc"},
		{"status", Command{Args: []string{"sh", "-c", "echo bad >&2; exit 3"}}, 3, "bad\n"},
		{"signal", Command{Args: []string{"sh", "-c", "kill -9 $$"}}, 137, "Killed\n"},
		{"environment and folder", Command{Args: []string{"sh", "-c", "echo $A; pwd"}, Env: []string{"A=it's"}, Dir: "/usr"}, 0, "it's\n/usr\n"},
		{"much", Command{Args: []string{"sh", "-c", "yes | head -c 3000000 | wc -c; yes | head -c 3000000 >&2"}}, 0, "3000000\n" + strings.Repeat("y\n", 1500000)},
		{"nothing of the host can be changed", Command{Args: []string{"sh", "-c", "echo x >/etc/hostname; rm /var/lib/dpkg/status"}}, 0, ""},
		{"the guest's own /tmp", Command{Args: []string{"ls", "-A", "/tmp"}}, 0, filepath.Base(filepath.Dir(filepath.Dir(host))) + "\n"},
		{"shared folder", Command{Args: []string{"sh", "-c", "echo x >/run/lab/from-guest"}}, 0, ""},
	} {
		var output bytes.Buffer
		tt.c.Output = &output
		status, err := m.Run(t.Context(), tt.c)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if status != tt.status || output.String() != tt.output {
			t.Errorf("%s: status %d, output %.200q", tt.name, status, output.String())
		}
	}
	if status, err := m.Run(t.Context(), Command{Args: []string{"no-such-program"}}); status != 127 || err != nil {
		t.Errorf("no such program: status %d, %v", status, err)
	}
	if _, err := os.Stat("/var/lib/dpkg/status"); err != nil {
		t.Fatalf("the guest changed the host: %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(m.Share, "from-guest")); err != nil || string(data) != "x\n" {
		t.Errorf("shared folder: %q, %v", data, err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("five seconds"))
	defer cancel()
	_, err := m.Run(ctx, Command{Args: []string{"sh", "-c", "echo last words >/dev/console; sleep 1000"}})
	if !errors.Is(err, ErrGuest) || !strings.Contains(err.Error(), "five seconds") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("guest that hangs: %v", err)
	}
	if _, err := m.Run(t.Context(), Command{Args: []string{"true"}}); !errors.Is(err, ErrGuest) {
		t.Errorf("guest that is gone: %v", err)
	}
}

// TestPanic checks that the kernel's last words are in the error.
func TestPanic(t *testing.T) {
	m := boot(t)
	_, err := m.Run(t.Context(), Command{Args: []string{"sh", "-c", "echo c >/proc/sysrq-trigger"}})
	// The trace is long, and the guest may be gone before its very last line: then the one before it tells.
	panicked := err != nil && (strings.Contains(err.Error(), "Kernel panic") || strings.Contains(err.Error(), "Kernel Offset"))
	if !errors.Is(err, ErrGuest) || !panicked {
		t.Fatal(err)
	}
}

// TestNoBoot gives QEMU a kernel that is none.
func TestNoBoot(t *testing.T) {
	needGuest(t)
	bad := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(bad, []byte("no kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Boot(t.Context(), Config{Parts: &Parts{Kernel: bad, Initramfs: bad, Root: t.TempDir()}})
	if !errors.Is(err, ErrGuest) || !strings.Contains(err.Error(), "qemu said") {
		t.Fatal(err)
	}
}

// TestMissingTools checks that a user who may not install is told what to.
func TestMissingTools(t *testing.T) {
	if len(missingTools()) > 0 && os.Geteuid() == 0 {
		t.Skip("would install packages: run lab prepare first")
	}
	saved := hostTools
	t.Cleanup(func() { hostTools = saved })
	hostTools = append(saved, struct{ program, debian string }{"no-such-program-1", "some-package"},
		struct{ program, debian string }{"no-such-program-2", "some-package"})
	missing := missingTools()
	if len(missing) == 0 || missing[len(missing)-1] != "some-package" || strings.Count(strings.Join(missing, " "), "some-package") != 1 {
		t.Fatal(missing)
	}
}
