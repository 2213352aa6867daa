package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

var phrase = []byte("correct horse battery staple")

// sealedFor seals the key of dir with few rounds: the time that they take is not what is tested.
func sealedFor(t testing.TB, dir string) []byte {
	t.Helper()
	key, _, err := readKey(filepath.Join(dir, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	text, err := seal(key, phrase, sealLeast)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSealAndInstall(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "new")
	was, err := Load(from)
	if err != nil {
		t.Fatal(err)
	}
	text, id, err := Seal(from, phrase)
	if err != nil || id != was.ID {
		t.Fatalf("%v, %v", id, err)
	}
	if seed := was.Certificate.PrivateKey.(ed25519.PrivateKey).Seed(); bytes.Contains(text, seed) {
		t.Error("the key is in clear")
	}
	if again, _, err := Seal(from, phrase); err != nil || bytes.Equal(again, text) {
		t.Error("sealing twice gives the same")
	}
	for _, short := range [][]byte{nil, []byte("123456789"), bytes.Repeat([]byte("x"), maxPassphrase+1)} {
		if _, _, err := Seal(from, short); !errors.Is(err, ErrWeak) {
			t.Errorf("a passphrase of %d bytes: %v", len(short), err)
		}
	}
	if _, _, err := Seal(t.TempDir(), phrase); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := Unseal(text, []byte("correct horse battery stable")); !errors.Is(err, ErrPassphrase) {
		t.Errorf("the wrong passphrase: %v", err)
	}
	s, err := Unseal(text, phrase)
	if err != nil || s.ID != id {
		t.Fatalf("%v, %v", s.ID, err)
	}
	if err := s.Install(to); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(to); err != nil || got.ID != id || got.Created || got.Repaired {
		t.Errorf("after the move: %+v, %v", got, err)
	}
	// Another key gives way, and is kept.
	other := t.TempDir()
	before, err := Load(other)
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(other, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second one changes nothing
		if err := s.Install(other); err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(filepath.Join(other, Kept(before.ID)))
		if now, e := Current(other); err != nil || e != nil || now != id || !bytes.Equal(kept, old) {
			t.Errorf("replaced: %v %v %v", now, e, err)
		}
		files, err := os.ReadDir(other)
		if err != nil || len(files) != 2 {
			t.Errorf("in the folder are %v, %v", files, err)
		}
		for _, f := range files {
			if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, %v", f.Name(), info.Mode(), err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(to, KeyFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Install(to); !errors.Is(err, ErrDamaged) {
		t.Errorf("over a damaged key: %v", err)
	}
}

// What Seal makes others can open, and the other way round: the form is PKCS #8, not ours.
func TestSealedIsPKCS8(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	dir := t.TempDir()
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "sealed.pem")
	if err := os.WriteFile(file, sealedFor(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PHRASE", string(phrase))
	run := func(args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), openssl, args...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, &stderr)
		}
		return out
	}
	plain, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	a, _ := pem.Decode(plain)
	if b, _ := pem.Decode(run("pkey", "-in", file, "-passin", "env:PHRASE")); b == nil || !bytes.Equal(a.Bytes, b.Bytes) {
		t.Error("openssl opens another key")
	}
	theirs := run("pkcs8", "-topk8", "-in", filepath.Join(dir, KeyFile), "-passout", "env:PHRASE", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-iter", "5000")
	if s, err := Unseal(theirs, phrase); err != nil || s.ID != id.ID {
		t.Errorf("what openssl sealed: %v, %v", s.ID, err)
	}
	if _, err := Unseal(run("pkcs8", "-topk8", "-in", filepath.Join(dir, KeyFile), "-passout", "env:PHRASE", "-scrypt"), phrase); !errors.Is(err, ErrSealed) {
		t.Errorf("another way to seal: %v", err)
	}
}

// FuzzUnseal: whatever is in the file, nothing panics, waits or gives a key that is none.
func FuzzUnseal(f *testing.F) {
	dir := f.TempDir()
	if _, err := Load(dir); err != nil {
		f.Fatal(err)
	}
	text := sealedFor(f, dir)
	block, _ := pem.Decode(text)
	f.Add(block.Bytes)
	f.Add(block.Bytes[:len(block.Bytes)/2])
	f.Add([]byte{})
	id, err := Current(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		s, err := Unseal(pem.EncodeToMemory(&pem.Block{Type: sealedType, Bytes: der}), phrase)
		switch {
		case err == nil && s.ID.IsZero():
			t.Error("a key of nobody")
		case err != nil && !errors.Is(err, ErrSealed) && !errors.Is(err, ErrPassphrase):
			t.Errorf("an error of its own: %v", err)
		case bytes.Equal(der, block.Bytes) && s.ID != id:
			t.Errorf("its own key is not opened: %v", err)
		}
	})
}
