package transfer

import (
	"os"
	"path/filepath"
	"testing"

	"nigh/agent/content"
)

func TestOneFile(t *testing.T) {
	for name, size := range map[string]int{
		"empty": 0, "one": 1, "255KiB": 255 << 10, "group": 256 << 10, "group+1": 256<<10 + 1, "batch": batchFile, "batch+1": batchFile + 1,
		"range+7": askMax + 7, "64MiB": 64 << 20,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
			path := write(t, filepath.Join(t.TempDir(), "file.bin"), size)
			sent := alice.send(bob, path)
			got := bob.untilState(Done)
			same(t, path, got.Path)
			if got.BytesDone != int64(size) || got.Sent != int64(size) {
				t.Errorf("done %d, received %d of %d bytes", got.BytesDone, got.Sent, size)
			}
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.Hash != content.Sum(whole) {
				t.Errorf("hash %s, want %s", got.Hash, content.Sum(whole))
			}
			if s := alice.untilState(Done); s.ID != sent.ID || s.Hash != got.Hash {
				t.Errorf("sender has %+v", s)
			}
			bob.clean("file.bin")
		})
	}
}

// folder makes one with everything that may be in it.
func folder(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "Fotos")
	for name, size := range map[string]int{
		"a.txt": 10, "empty": 0, "Grüße/ñandú 🦜.txt": 4000, "Grüße/e\u0301.txt": 5, "Grüße/\u00e9.txt": 6, "big.bin": 3<<20 + 17,
		".hidden/.profile": 30, "sub/sub/sub/deep": 70_000, "sub.x": 1, "sub-x": 2, "sub/trailing. ": 3, "Zeta": 300 << 10,
	} {
		write(t, filepath.Join(dir, name), size)
	}
	for _, name := range []string{"nothing", "sub/nothing/here"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "a.txt"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFolder(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir := folder(t)
	alice.send(bob, dir)
	got := bob.untilState(Done)
	same(t, dir, got.Path)
	if !got.Dotfiles || !got.Executables || got.Files != 12 || got.Dirs != 9 {
		t.Errorf("shown as %+v", got)
	}
	alice.untilState(Done)
	bob.clean("Fotos")
	alice.send(bob, dir)
	second := bob.until("done again", func(t Transfer) bool { return t.State == Done && t.ID != got.ID })
	if filepath.Base(second.Path) != "Fotos (1)" {
		t.Errorf("second one lies at %s", second.Path)
	}
	same(t, dir, second.Path)
	same(t, dir, got.Path)
}
