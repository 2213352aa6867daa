package transfer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"nigh/agent/content"
	"nigh/agent/receive"
)

func encode(t testing.TB, entries ...Entry) *manifest {
	t.Helper()
	var b builder
	for _, e := range entries {
		if err := b.encode(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.finish()
}

func TestManifestRoundTrip(t *testing.T) {
	var want []Entry
	want = append(want, Entry{Path: "a", Dir: true, Mtime: time.Unix(-62135596800, 0)})
	for i := range 1000 {
		want = append(want, Entry{Path: fmt.Sprintf("a/%06d", i), Size: int64(i) << 20, Mtime: time.Unix(int64(i), 999), Executable: i%3 == 0})
	}
	want = append(want, Entry{Path: "a b", Size: 1, Hash: content.Sum([]byte("x")), Mtime: time.Unix(1, 2)}, Entry{Path: "a.x"}, Entry{Path: "aa", Dir: true})
	m := encode(t, want...)
	back, err := parse(m.blob)
	if err != nil {
		t.Fatal(err)
	}
	if !back.equal(&m.Summary) || back.Files != 1002 || back.Dirs != 2 || back.Tops != 4 {
		t.Errorf("summary %+v, want %+v", back.Summary, m.Summary)
	}
	c := back.from(0)
	for i := range want {
		e, ok := c.next()
		want[i].Index = i
		if !ok || e.Path != want[i].Path || e.Size != want[i].Size || !e.Mtime.Equal(want[i].Mtime) || e.Dir != want[i].Dir ||
			e.Executable != want[i].Executable || e.Hash != want[i].Hash || e.Index != i {
			t.Fatalf("entry %d: %+v, want %+v", i, e, want[i])
		}
	}
	if _, ok := c.next(); ok {
		t.Error("an entry after the last")
	}
	for _, i := range []int{0, 255, 256, 257, 999, 1003, 3, 4, 700} {
		if e, ok := c.at(i); !ok || e.Path != want[i].Path {
			t.Errorf("at(%d) = %q, %v", i, e.Path, ok)
		}
	}
	for _, i := range []int{-1, 1004, 1 << 40} {
		if _, ok := back.from(0).at(i); ok {
			t.Errorf("at(%d) exists", i)
		}
	}
}

// raw encodes an entry without any check.
func raw(kind byte, path string, size uint64) []byte {
	p := []byte{kind, 0}
	p = binary.AppendUvarint(p, uint64(len(path)))
	p = append(p, path...)
	if kind&0x0f != kindDir {
		p = binary.AppendUvarint(p, size)
	}
	return append(p, 0, 0)
}

// Every class of name and number that must never pass, whoever the manifest comes from.
func TestHostileManifests(t *testing.T) {
	names := map[string][]byte{}
	for _, name := range []string{"../x", "/abs", "/etc/x", "a/../../x", `..\x`, `C:\x`, "a\x00b", "", ".", "..", "../../.bashrc", "./a", "a/", "a//b",
		strings.Repeat("n", 256), strings.Repeat("p/", 2500), "evil\x1b[2K\x1b[1A\rok", "\u009b31m", "\x1b]52;c;eA==\a", "\u202eexe", "\xff\xfe", "x\n"} {
		names[fmt.Sprintf("name %.20q", name)] = raw(kindFile, name, 1)
		names[fmt.Sprintf("directory %.20q", name)] = raw(kindDir, name, 0)
	}
	join := func(entries ...[]byte) []byte { return bytes.Join(entries, nil) }
	for what, blob := range map[string][]byte{
		"twice":                 join(raw(kindFile, "a", 1), raw(kindFile, "a", 1)),
		"file then directory":   join(raw(kindFile, "a", 1), raw(kindDir, "a", 0)),
		"directory then file":   join(raw(kindDir, "a", 1), raw(kindFile, "a", 0)),
		"below a file":          join(raw(kindFile, "a", 1), raw(kindFile, "a/b", 1)),
		"below nothing":         join(raw(kindFile, "a/b", 1)),
		"parent after child":    join(raw(kindDir, "a", 1), raw(kindFile, "a/b/c", 1), raw(kindDir, "a/b", 1)),
		"parent is a prefix":    join(raw(kindDir, "ab", 1), raw(kindFile, "a/b", 1)),
		"out of order":          join(raw(kindFile, "b", 1), raw(kindFile, "a", 1)),
		"symbolic link":         raw(0x03, "link", 4),
		"device":                raw(0x04, "null", 0),
		"set-user-id flag":      raw(kindFile|0x40, "sh", 1),
		"executable directory":  raw(kindDir|flagExec, "d", 0),
		"kind 0":                raw(0, "d", 0),
		"size 2^63":             raw(kindFile, "a", 1<<63),
		"size 2^63-1":           raw(kindFile, "a", 1<<63-1),
		"size over bound":       raw(kindFile, "a", maxFileSize+1),
		"hash cut off":          raw(kindFile|flagHash, "a", 1),
		"cut in a name":         raw(kindFile, "abcdef", 1)[:6],
		"name longer than rest": {kindFile, 0, 200, 1, 'a'},
		"shares with nothing":   {kindFile, 5, 1, 'a', 1, 0, 0},
		"length 2^64-1":         append([]byte{kindFile, 0}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'a'),
		"shared 2^64-1":         append([]byte{kindFile}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 2, 'a', 'b'),
		"endless number":        append([]byte{kindFile, 0, 1, 'a'}, bytes.Repeat([]byte{0xff}, 20)...),
		"a billion nanoseconds": append(raw(kindFile, "a", 1)[:6], binary.AppendUvarint(nil, 1e9)...),
	} {
		names[what] = blob
	}
	for what, blob := range names {
		m, err := parse(blob)
		if err == nil {
			t.Errorf("%s: accepted as %+v", what, m.Summary)
			continue
		}
		if c := Code(err); c != "protocol" && c != "too_large" {
			t.Errorf("%s: %v has code %q", what, err, c)
		}
		for _, r := range err.Error() {
			if r < 0x20 || r == 0x7f || r == 0x9b || r == 0x202e {
				t.Errorf("%s: raw characters in %q", what, err)
			}
		}
	}
}

func TestTooManyEntries(t *testing.T) {
	var b builder
	var err error
	for i := 0; err == nil && i <= maxEntries; i++ {
		err = b.encode(Entry{Path: fmt.Sprintf("%07d", i)})
	}
	if !errors.Is(err, ErrTooLarge) || b.m.entries() != maxEntries {
		t.Errorf("%d entries, then %v", b.m.entries(), err)
	}
	m := b.finish()
	if back, err := parse(m.blob); err != nil || back.entries() != maxEntries || len(back.Names) != maxTopNames {
		t.Errorf("a million entries read back: %v", err)
	}
	t.Logf("a million entries take %d bytes", len(m.blob))
	if _, err := parse(append(m.blob, raw(kindFile, "zz", 1)...)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
	if _, err := parse(make([]byte, maxManifest+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("100 MB of names: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(encode(f, Entry{Path: "a", Dir: true}, Entry{Path: "a/b", Size: 3, Hash: content.Sum(nil)}, Entry{Path: "c", Executable: true}).blob)
	f.Add(raw(kindFile, "../x", 1))
	f.Fuzz(func(t *testing.T, blob []byte) {
		m, err := parse(blob)
		if err != nil {
			return
		}
		n, bytes, prev := 0, int64(0), ""
		for c := m.from(0); ; n++ {
			e, ok := c.next()
			if !ok {
				break
			}
			if receive.CheckPath(e.Path) != nil || n > 0 && !less(prev, e.Path) {
				t.Fatalf("entry %q passed", e.Path)
			}
			bytes, prev = bytes+e.Size, e.Path
		}
		if n != m.entries() || bytes != m.Bytes || bytes < 0 {
			t.Fatalf("summary %+v of %d entries, %d bytes", m.Summary, n, bytes)
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 7, 0, 0, 0, 0, 3, 'a', 'b', 'c'}, int64(3))
	f.Add([]byte{0, 0, 0, 7, 1, 0, 0, 0, 0}, int64(9))
	f.Add([]byte{0, 0, 0, 7, 0, 0xff, 0xff, 0xff, 0xff}, int64(9))
	f.Fuzz(func(t *testing.T, p []byte, size int64) {
		e := Entry{Index: 7, Size: min(max(size, 0), 64)}
		buf := make([]byte, 64)
		in := bytes.NewReader(p)
		status, _, err := readFrame(in, &e, buf)
		used := len(p) - in.Len()
		if used > frameHeader+64+content.HashSize {
			t.Fatalf("read %d bytes", used)
		}
		if err == nil && status == frameOK && used != frameHeader+int(e.Size)+content.HashSize {
			t.Fatalf("a frame of %d bytes for %d", used, e.Size)
		}
	})
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1048575", "bytes=-1", "bytes=9-", "bytes=0-9223372036854775807", "bytes=0-0,1-1", ""} {
		f.Add(s, int64(5<<20))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		e := Entry{Size: min(max(size, 0), maxFileSize)}
		from, to, err := parseRange(s, &e)
		if err != nil {
			return
		}
		start, _ := content.GroupBounds(e.Size, from)
		last, n := content.GroupBounds(e.Size, to-1)
		if from < 0 || to <= from || to > content.Groups(e.Size) || last+n-start > max(maxRange, content.GroupSize(e.Size)) {
			t.Fatalf("%q of %d bytes gave groups %d to %d", s, e.Size, from, to)
		}
	})
}

func TestOrder(t *testing.T) {
	for _, pair := range [][2]string{{"a", "a/b"}, {"a/b", "a b"}, {"a/z", "a-"}, {"a", "b"}, {"A", "a"}, {"a/b/c", "a/b.c"}} {
		if !less(pair[0], pair[1]) || less(pair[1], pair[0]) {
			t.Errorf("%q must come before %q", pair[0], pair[1])
		}
	}
	if less("a", "a") {
		t.Error("a before itself")
	}
}
