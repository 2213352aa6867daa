package policy

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const someDevice = "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B4IB-CEQT-CQKR-MFYY-DENB-WHA5-DYPW-Q"

func write(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "nigh")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "policy.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(path string) (Policy, error) { return Load(path, os.Geteuid()) }

func TestLoad(t *testing.T) {
	path := write(t, `# the kiosk
receive = false
direct = false
pairing = false
auto_accept = false
visibility = "trusted"
devices = []
shares = [
  "/srv/public",
]
max_size = "2GB"
rate_up = "5MB/s"
rate_down = 1000
device_rate_up = "1MiB/s"
device_rate_down = "1k"
transfers = 2

[peers]
max = 10
`)
	p, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !Off(p.Receive) || !Off(p.Direct) || !Off(p.Pairing) || !Off(p.AutoAccept) || p.Visibility != "trusted" ||
		p.Devices == nil || len(*p.Devices) != 0 || p.Shares == nil || (*p.Shares)[0] != "/srv/public" {
		t.Errorf("switches: %+v", p)
	}
	if p.MaxSize != 2e9 || p.RateUp != 5e6 || p.RateDown != 1000 || p.DeviceRateUp != 1<<20 || p.DeviceRateDown != 1000 || p.Transfers != 2 || p.Peers.Max != 10 {
		t.Errorf("numbers: %+v", p)
	}
	for key, line := range map[string]int{"receive": 2, "shares": 8, "transfers": 16, "peers.max": 19} {
		if p.Lines[key] != line {
			t.Errorf("%s is said to be in line %d, want %d", key, p.Lines[key], line)
		}
	}
	if p.File != path || len(p.Lines) != 14 {
		t.Errorf("file %q, lines %v", p.File, p.Lines)
	}
	for _, nothing := range []string{filepath.Join(t.TempDir(), "policy.toml"), filepath.Join(t.TempDir(), "none", "policy.toml")} {
		if p, err := load(nothing); err != nil || p.File != "" || Off(p.Receive) {
			t.Errorf("no file: %+v, %v", p, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	for text, says := range map[string]string{
		"receive = false\ncolour = 3":       `line 2: unknown key "colour"`,
		"receive = \"no\"":                  "line 1",
		"receive":                           "line 1",
		"[receive]\nx = 1":                  "line",
		"visibility = \"some\"":             "line 1: visibility must be",
		"\nmax_size = \"lots\"":             "line 2",
		"max_size = -5":                     "line 1",
		"max_size = 0":                      "line 1: max_size must be more than zero",
		"transfers = 0":                     "line 1: transfers must be more than zero",
		"transfers = 9999999999999999999":   "line 1",
		"[peers]\nmax = -1":                 "line 2: peers.max must be more than zero",
		"rate_up = \"none\"":                "line 1: rate_up must be more than zero",
		"devices = [\"7Q4K\"]":              "line 1",
		"devices = \"" + someDevice + "\"":  "line 1",
		"shares = [\"relative\"]":           "line 1: shares has",
		"receive = false\nreceive = true":   "line 2",
		strings.Repeat("# x\n", maxBytes/3): "larger than",
		"name = \"\xff\"":                   "line 1",
	} {
		if _, err := load(write(t, text)); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "policy.toml") {
			t.Errorf("%.60q: %v, want an error that says %q", text, err, says)
		}
	}
}

// A file that others could have written is worse than none, and none may pass for a
// file that cannot be read.
func TestUnsafeFiles(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"can be written by others":           func(path string) error { return os.Chmod(path, 0o666) },
		"can be written by others than root": func(path string) error { return os.Chmod(path, 0o664) },
		"nigh can be written by others":      func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
		"is a symbolic link": func(path string) error {
			return errors.Join(os.Rename(path, path+".other"), os.Symlink(path+".other", path))
		},
		"is not a regular file": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o755)) },
	} {
		path := write(t, "receive = false")
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		if _, err := load(path); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Load(write(t, "receive = false"), os.Geteuid()+1); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), "not owned by root") {
		t.Errorf("another's file: %v", err)
	}
	path := write(t, "receive = false")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := load(path); os.Geteuid() != 0 && !errors.Is(err, ErrPolicy) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if _, err := load(filepath.Join(path, "policy.toml")); !errors.Is(err, ErrPolicy) {
		t.Errorf("a folder that is a file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"receive = false\n[peers]\nmax = 3", "devices = [\"" + someDevice + "\"]", "shares = ['/a']\nmax_size = '1.5GiB'", "a.b = {c = 1}\n[[x]]", "= ", "\"\\u0000\" = 1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		Lines(raw)
		p, err := parse(raw)
		if err != nil {
			return
		}
		for _, n := range []Size{p.MaxSize, p.RateUp, p.RateDown, p.DeviceRateUp, p.DeviceRateDown, Size(p.Transfers), Size(p.Peers.Max)} {
			if n < 0 {
				t.Errorf("a bound below zero: %+v", p)
			}
		}
		for key, line := range p.Lines {
			if line < 1 || line > strings.Count(string(raw), "\n")+1 {
				t.Errorf("%s is said to be in line %d", key, line)
			}
		}
	})
}
