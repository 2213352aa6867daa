package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nigh/agent/control"
	"nigh/agent/pairing"
	"nigh/agent/trust"
)

// booted makes an agent whose boot partition has a file with this text, and returns it with its log; Run is not called.
func booted(t *testing.T, cfg Config) (*Agent, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a, &log
}

func bootConfig(t *testing.T, text string) Config {
	t.Helper()
	cfg := localConfig(t)
	cfg.Name, cfg.BootFile = "", filepath.Join(t.TempDir(), "nigh.toml")
	if err := os.WriteFile(cfg.BootFile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{cfg.BootFile: 0o644, filepath.Dir(cfg.BootFile): 0o755} { // whatever the umask is
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// A file on the boot partition sets a device up at its first start, once; after that it may say what it likes.
func TestBootFileSetsUpOnce(t *testing.T) {
	friend, code := newIdentity(t).ID, pairing.NewSetupCode()
	cfg := bootConfig(t, "\ufeffname = \"kitchen-pi\" # from Windows\r\naccept = 'trusted'\r\ndirect = true\r\ntransfers = 2\r\ntrusted = [\""+friend.String()+"\"]\r\nsetup_code = \""+strings.ToLower(code.Text())+"\"\r\n")
	a, log := booted(t, cfg)
	if s := a.status(); s.Name != "kitchen-pi" || s.Agent.Accept != "trusted" || s.Limits.Transfers != 2 {
		t.Errorf("%+v", s)
	}
	if a.trust.Standing(friend) != trust.Trusted || len(a.trust.List()) != 1 {
		t.Error("the device of the file is not trusted")
	}
	if got, err := (backend{a}).SetupCode(t.Context(), control.SetupCodeRequest{}); err != nil || got.Code != code.Text() {
		t.Errorf("setup code %+v, %v", got, err)
	}
	if n := strings.Join(a.status().Notices, "\n"); !strings.Contains(n, "is no secret") || !strings.Contains(n, cfg.BootFile) {
		t.Errorf("notices %q", n)
	}
	if strings.Contains(strings.ToUpper(log.String()), code.Text()[:9]) || !strings.Contains(log.String(), "Set up by the file") {
		t.Errorf("log:\n%s", log)
	}
	own := a.ID()
	// What the person decides from then on stays, whatever the file says.
	if err := a.trust.Remove(friend); err != nil {
		t.Fatal(err)
	}
	if _, err := (backend{a}).SetupCode(t.Context(), control.SetupCodeRequest{New: true}); err != nil {
		t.Fatal(err)
	}
	a.close()
	if err := os.WriteFile(cfg.BootFile, []byte("name = \"other\"\ntrusted = [\""+friend.String()+"\"]\nsetup_code = \""+code.Text()+"\""), 0o644); err != nil {
		t.Fatal(err)
	}
	a, log = booted(t, cfg)
	if got, err := (backend{a}).SetupCode(t.Context(), control.SetupCodeRequest{}); err != nil || got.Code == code.Text() || a.ID() != own || a.status().Name != "kitchen-pi" || len(a.trust.List()) != 0 {
		t.Errorf("the file counts again: %s, %d devices, %v\n%s", a.status().Name, len(a.trust.List()), err, log)
	}
	if n := strings.Join(a.status().Notices, "\n"); !strings.Contains(n, "is no secret") {
		t.Errorf("the file is still there: %q", n)
	}
	a.close()
	if err := os.Remove(cfg.BootFile); err != nil {
		t.Fatal(err)
	}
	a, _ = booted(t, cfg)
	defer a.close()
	if n := a.status().Notices; len(n) != 0 {
		t.Errorf("the file is gone: %q", n)
	}
}

// A device that was set up before takes nothing from the boot partition.
func TestBootFileIsForTheFirstStart(t *testing.T) {
	cfg := bootConfig(t, "name = \"late\"\n")
	path := cfg.BootFile
	cfg.BootFile = filepath.Join(t.TempDir(), "none")
	a, _ := booted(t, cfg)
	a.close()
	cfg.BootFile = path
	a, _ = booted(t, cfg)
	defer a.close()
	if n := strings.Join(a.status().Notices, "\n"); a.status().Name == "late" || !strings.Contains(n, "was set up before") {
		t.Errorf("%s, %q", a.status().Name, n)
	}
}

// What is wrong with the file is one line in status and log, nothing of it counts, the agent starts; the mended file counts.
func TestBootFileWithMistakes(t *testing.T) {
	code := pairing.NewSetupCode().Text()
	friend := newIdentity(t).ID.String()
	for text, says := range map[string]string{
		"name = \"pi\"\nsetup_code = " + code + "\n":              "line 2 is not TOML",
		"name = \"pi\"\nsetup_code = \"" + code[:15] + "AAAA-A\"": "line 2: setup_code is no setup code",
		"setup_code = 7": "line 1: setup_code is no setup code",
		"name = \"pi\"\ntrusted = [\"" + friend[:20] + "\"]":             "line 2: trusted has an item",
		"trusted = \"" + friend + "\"":                                   "line 1: trusted must be a list",
		"name = \"pi\"\nfavourite = \"tea\"":                             "line 2: favourite is unknown here",
		"trusted = [\"" + friend + "\"]\naccept = \"everybody\"":         "accept must be ask, trusted or all",
		"direct = \"perhaps\"":                                           "line 1: direct must be true or false",
		"[wifi]\nname = \"x\"":                                           "table wifi: is unknown here",
		"name = \"" + strings.Repeat("x", 41) + "\"":                     "longer than 40",
		strings.Repeat("# x\n", maxBootBytes):                            "larger than",
		"\x00\x01\xff":                                                   "line 1 is not TOML",
		"trusted = [" + strings.Repeat("\"x\",", maxBootTrusted+1) + "]": "at most",
	} {
		cfg := bootConfig(t, text)
		a, log := booted(t, cfg)
		notices := strings.Join(a.status().Notices, "\n")
		if !strings.Contains(notices, says) || strings.Contains(notices, "\n") || !strings.Contains(log.String(), "File on the boot partition does not count") {
			t.Errorf("%q: %q\n%s", text[:min(len(text), 80)], notices, log)
		}
		if strings.Contains(notices+log.String(), code[:9]) {
			t.Error("the code is quoted")
		}
		if len(a.trust.List()) != 0 || a.status().Name == "pi" || a.status().Agent.Accept != "ask" {
			t.Errorf("%q: a part of it counts", text)
		}
		a.close()
		if err := os.WriteFile(cfg.BootFile, []byte("name = \"mended\""), 0o644); err != nil {
			t.Fatal(err)
		}
		a, _ = booted(t, cfg)
		if a.status().Name != "mended" || len(a.status().Notices) != 0 {
			t.Errorf("%q, mended: %+v", text[:min(len(text), 80)], a.status())
		}
		a.close()
	}
}

// Nobody but root and the user can have a device set up.
func TestBootFileOfOthers(t *testing.T) {
	for name, spoil := range map[string]struct {
		do   func(path string) error
		says string
	}{
		"writable":        {func(p string) error { return os.Chmod(p, 0o666) }, "can be written by others"},
		"folder writable": {func(p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, "can be written by others"},
		"link": {func(p string) error {
			if err := os.Rename(p, p+".real"); err != nil {
				return err
			}
			return os.Symlink(p+".real", p)
		}, "is a symbolic link"},
		"pipe": {func(p string) error {
			if err := os.Remove(p); err != nil {
				return err
			}
			return syscall.Mkfifo(p, 0o644)
		}, "is not a regular file"},
		"of another user": {func(p string) error {
			if os.Geteuid() != 0 {
				return os.Chmod(p, 0o666) // cannot be made; the case above once more
			}
			return os.Chown(p, 4711, -1)
		}, ""},
	} {
		cfg := bootConfig(t, "name = \"pi\"")
		if err := spoil.do(cfg.BootFile); err != nil {
			t.Fatal(err)
		}
		a, _ := booted(t, cfg)
		if n := strings.Join(a.status().Notices, "\n"); a.status().Name == "pi" || !strings.Contains(n, spoil.says) || n == "" {
			t.Errorf("%s: %s, %q", name, a.status().Name, n)
		}
		a.close()
	}
}

// What stands in config.toml or on the command line counts before it.
func TestBootFileCountsLessThanTheConfiguration(t *testing.T) {
	cfg := bootConfig(t, "name = \"pi\"\naccept = \"trusted\"")
	if err := cfg.Flag("name", "mine"); err != nil {
		t.Fatal(err)
	}
	a, _ := booted(t, cfg)
	defer a.close()
	if s := a.status(); s.Name != "mine" || s.Agent.Accept != "trusted" || len(s.Notices) != 0 {
		t.Errorf("%+v", s)
	}
}
