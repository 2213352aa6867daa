package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"nigh/agent/private"
)

func someID(seed string) DeviceID { return sha256.Sum256([]byte(seed)) }

func TestStringAndParse(t *testing.T) {
	id := someID("one")
	s := id.String()
	groups := strings.Split(s, "-")
	if len(groups) != 14 {
		t.Fatalf("%q has %d groups, want 14", s, len(groups))
	}
	for _, g := range groups {
		if len(g) != 4 {
			t.Errorf("group %q of %q", g, s)
		}
	}
	if want := groups[0] + "-" + groups[1]; id.Short() != want {
		t.Errorf("Short = %q, want the first two groups %q", id.Short(), want)
	}
	lookalike := strings.NewReplacer("O", "0", "I", "1", "B", "8").Replace(s)
	for _, in := range []string{s, strings.ToLower(s), strings.ReplaceAll(s, "-", ""), " " + strings.ReplaceAll(s, "-", "  ") + "\n", lookalike} {
		got, err := ParseDeviceID(in)
		if err != nil || got != id {
			t.Errorf("ParseDeviceID(%q) = %v, %v", in, got, err)
		}
	}
}

func TestVector(t *testing.T) {
	// Fixed for ever: devices write these down.
	const want = "AAAA-AAAA-AAAA-A5AA-AAAA-AAAA-AAA7-AAAA-AAAA-AAAA-ACAA-AAAA-AAAA-AAA3"
	got := DeviceID{}.String()
	if got != want {
		t.Errorf("zero ID is written %q, want %q", got, want)
	}
}

func TestEveryTypoIsFound(t *testing.T) {
	for _, seed := range []string{"one", "two", "three"} {
		s := strings.ReplaceAll(someID(seed).String(), "-", "")
		for i := range len(s) {
			for j := range len(alphabet) {
				if s[i] == alphabet[j] {
					continue
				}
				typo := s[:i] + string(alphabet[j]) + s[i+1:]
				if _, err := ParseDeviceID(typo); !errors.Is(err, ErrBadID) {
					t.Fatalf("%q with character %d as %q: %v", s, i, alphabet[j], err)
				}
			}
			for j := i + 1; j < len(s) && j/14 == i/14; j++ {
				if s[i] == s[j] {
					continue
				}
				b := []byte(s)
				b[i], b[j] = b[j], b[i]
				if _, err := ParseDeviceID(string(b)); !errors.Is(err, ErrBadID) {
					t.Fatalf("%q with characters %d and %d swapped: %v", s, i, j, err)
				}
			}
		}
		swapped := s[14:28] + s[:14] + s[28:]
		if _, err := ParseDeviceID(swapped); !errors.Is(err, ErrBadID) {
			t.Errorf("two blocks swapped: %v", err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	s := someID("one").String()
	for _, in := range []string{"", "-", s[:len(s)-1], s + "A", s + s, "9" + s[1:], "Ä" + s[2:], strings.Repeat(" ", 1<<20)} {
		if _, err := ParseDeviceID(in); !errors.Is(err, ErrBadID) {
			t.Errorf("ParseDeviceID(%.70q): %v", in, err)
		}
	}
	wrong := []byte(s)
	if wrong[21] == 'A' {
		wrong[21] = 'B'
	} else {
		wrong[21] = 'A'
	}
	if _, err := ParseDeviceID(string(wrong)); err == nil || !strings.Contains(err.Error(), "groups 4 to 7") {
		t.Errorf("the error does not name the groups: %v", err)
	}
}

func TestJSON(t *testing.T) {
	in := map[DeviceID]DeviceID{someID("a"): someID("b")}
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out map[DeviceID]DeviceID
	if err := json.Unmarshal(raw, &out); err != nil || out[someID("a")] != someID("b") {
		t.Errorf("%s came back as %v, %v", raw, out, err)
	}
}

func FuzzParseDeviceID(f *testing.F) {
	f.Add(someID("one").String())
	f.Add("7Q4K-M2XD")
	f.Add("\x00-\xff")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseDeviceID(s)
		if err != nil {
			if !errors.Is(err, ErrBadID) || !id.IsZero() {
				t.Fatalf("ParseDeviceID(%q) = %v, %v", s, id, err)
			}
			return
		}
		again, err := ParseDeviceID(id.String())
		if err != nil || again != id {
			t.Fatalf("%q gave %v, which is read as %v, %v", s, id, again, err)
		}
	})
}

func TestLoadKeepsTheKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Created {
		t.Error("Created is false for a new key")
	}
	second, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if second.Created || second.ID != first.ID {
		t.Errorf("the second start has ID %v (created %v), the first %v", second.ID, second.Created, first.ID)
	}
	id, err := FromCertificate(second.Certificate.Leaf)
	if err != nil || id != first.ID {
		t.Errorf("the certificate carries %v, %v", id, err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, KeyFile): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.new-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestLoadAtOnce(t *testing.T) {
	dir := t.TempDir()
	ids := make([]DeviceID, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := Load(dir)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = id.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("two identities: %v and %v", id, ids[0])
		}
	}
}

func TestLoadNarrowsModes(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, KeyFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !id.Repaired {
		t.Error("Repaired is false")
	}
	info, _ := os.Stat(path)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %o", info.Mode().Perm())
	}
}

func TestDamagedKeyIsNeverReplaced(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":     "",
		"zeros":     strings.Repeat("\x00", 119),
		"cut":       "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ",
		"other PEM": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"garbage":   "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"ECDSA":     string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"huge":      strings.Repeat("A", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, KeyFile)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(dir); !errors.Is(err, ErrDamaged) {
				t.Errorf("Load: %v, want ErrDamaged", err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != text {
				t.Errorf("the file was changed (%v)", err)
			}
		})
	}
}

func TestUnsafeKeyFileIsRefused(t *testing.T) {
	t.Run("symbolic link", func(t *testing.T) {
		dir := t.TempDir()
		other := t.TempDir()
		if _, err := Load(other); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(other, KeyFile), filepath.Join(dir, KeyFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); !errors.Is(err, private.ErrUnsafe) {
			t.Errorf("Load: %v", err)
		}
	})
	t.Run("FIFO", func(t *testing.T) {
		dir := t.TempDir()
		if err := syscall.Mkfifo(filepath.Join(dir, KeyFile), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); !errors.Is(err, private.ErrUnsafe) {
			t.Errorf("Load: %v", err)
		}
	})
}

func TestFromCertificateWantsEd25519(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, cert := range []*x509.Certificate{nil, {}, {PublicKey: ec.Public()}} {
		if _, err := FromCertificate(cert); !errors.Is(err, ErrBadCertificate) {
			t.Errorf("FromCertificate: %v", err)
		}
	}
}
