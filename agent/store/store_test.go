package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestMain lets the test binary be the other agent of the lock tests.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_HOLD"); dir != "" {
		if _, err := Open(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("open")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

type value struct {
	N    int
	Text string
}

func TestValues(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := open(t, dir)
	b := s.Bucket("things")
	var v value
	if err := b.Get([]byte("a"), &v); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get without a bucket: %v", err)
	}
	if err := b.Delete([]byte("a")); err != nil {
		t.Errorf("Delete without a bucket: %v", err)
	}
	if err := b.Put([]byte("a"), value{1, "one"}); err != nil {
		t.Fatal(err)
	}
	if err := b.Get([]byte("b"), &v); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of a missing key: %v", err)
	}
	if err := b.Put(nil, v); err == nil {
		t.Error("an empty key was taken")
	}
	if err := b.Put([]byte("x"), func() {}); err == nil {
		t.Error("a function was stored")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Get([]byte("a"), &v); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}

	s = open(t, dir)
	b = s.Bucket("things")
	if err := b.Get([]byte("a"), &v); err != nil || v != (value{1, "one"}) {
		t.Errorf("after opening again: %v, %v", v, err)
	}
	if err := b.Delete([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := b.Get([]byte("a"), &v); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get after Delete: %v", err)
	}
	for range 2 {
		if err := b.Clear(); err != nil {
			t.Errorf("Clear: %v", err)
		}
	}
	for path, want := range map[string]fs.FileMode{"": 0o700, DatabaseFile: 0o600, LockFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, path))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, want %o", path, info.Mode(), want)
		}
	}
}

func TestUpdateIsOne(t *testing.T) {
	s := open(t, t.TempDir())
	stop := errors.New("stop")
	err := s.Update(func(tx *Tx) error {
		if err := tx.Bucket("a").Put([]byte("k"), 1); err != nil {
			return err
		}
		return stop
	})
	var n int
	if !errors.Is(err, stop) || !errors.Is(s.Bucket("a").Get([]byte("k"), &n), fs.ErrNotExist) {
		t.Errorf("a failed Update left a value (%v)", err)
	}
	err = s.Update(func(tx *Tx) error {
		a, b := tx.Bucket("a"), tx.Bucket("b")
		if err := errors.Join(a.Put([]byte("k"), 1), b.Put([]byte("k"), 2)); err != nil {
			return err
		}
		return a.Get([]byte("k"), &n)
	})
	if err != nil || n != 1 {
		t.Errorf("Update: %v, read %d inside", err, n)
	}
	if err := s.Bucket("b").Get([]byte("k"), &n); err != nil || n != 2 {
		t.Errorf("after Update: %d, %v", n, err)
	}
}

func TestForEach(t *testing.T) {
	s := open(t, t.TempDir())
	b := s.Bucket("many")
	const n = 3*pageEntries + 5
	err := s.Update(func(tx *Tx) error {
		for i := range n {
			if err := tx.Bucket("many").Put(fmt.Appendf(nil, "k%05d", i), i); err != nil {
				return err
			}
		}
		return tx.Bucket("many").Put([]byte("other"), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	err = b.ForEachPrefix([]byte("k"), func(key, raw []byte) error {
		var v int
		if err := json.Unmarshal(raw, &v); err != nil || v != i || string(key) != fmt.Sprintf("k%05d", i) {
			t.Fatalf("entry %d is %s = %s", i, key, raw)
		}
		i++
		return b.Delete(key) // writing inside is allowed
	})
	if err != nil || i != n {
		t.Errorf("%d entries, %v; want %d", i, err, n)
	}
	left := 0
	stop := errors.New("stop")
	if err := b.ForEach(func(_, _ []byte) error { left++; return stop }); !errors.Is(err, stop) || left != 1 {
		t.Errorf("%d left, %v", left, err)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, t.TempDir())
	b := s.Bucket("c")
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20 {
				key := fmt.Appendf(nil, "%d-%d", g, i)
				if err := b.Put(key, i); err != nil {
					t.Error(err)
				}
				if err := b.ForEach(func(_, _ []byte) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSecondAgentIsRefusedWithThePID(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "STORE_TEST_HOLD="+dir)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = other.Wait() }()
	word := make([]byte, 5)
	if _, err := io.ReadFull(stdout, word); err != nil || string(word) != "open\n" {
		t.Fatalf("the other agent said %q, %v", word, err)
	}
	_, err = Open(dir)
	locked, ok := errors.AsType[ErrLocked](err)
	if !ok || locked.PID != other.Process.Pid || locked.Dir != dir {
		t.Fatalf("Open: %v, want locked by %d", err, other.Process.Pid)
	}
	if !strings.Contains(err.Error(), fmt.Sprint(other.Process.Pid)) {
		t.Errorf("the text does not name the PID: %v", err)
	}
	// However it ends, the folder is free again.
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	open(t, dir)
}

func fill(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(func(tx *Tx) error {
		for i := range 2000 {
			if err := tx.Bucket("b").Put(fmt.Appendf(nil, "%06d", i), value{i, strings.Repeat("x", 50)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedDatabaseIsSetAside(t *testing.T) {
	whole := t.TempDir()
	fill(t, whole)
	good, err := os.ReadFile(filepath.Join(whole, DatabaseFile))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	half := len(good) / 2 / page * page
	for name, damage := range map[string]func(b []byte) []byte{
		"text":               func([]byte) []byte { return []byte("this is not a database\n") },
		"nothing":            func([]byte) []byte { return nil },
		"one byte":           func([]byte) []byte { return []byte{0} },
		"cut to two pages":   func(b []byte) []byte { return b[:2*page] },
		"cut in the middle":  func(b []byte) []byte { return b[:half] },
		"cut inside a page":  func(b []byte) []byte { return b[:half+100] },
		"both metas zero":    func(b []byte) []byte { clear(b[:2*page]); return b },
		"all but metas zero": func(b []byte) []byte { clear(b[2*page:]); return b },
		"a page zero":        func(b []byte) []byte { clear(b[half : half+page]); return b },
		"a page of 0xff": func(b []byte) []byte {
			for i := half; i < half+page; i++ {
				b[i] = 0xff
			}
			return b
		},
		"a value broken": func(b []byte) []byte {
			for i := range b {
				if b[i] == '{' && i > 2*page {
					b[i] = 0
				}
			}
			return b
		},
		"element offsets wild": func(b []byte) []byte {
			for i := half + 16; i < half+page; i++ {
				b[i] ^= 0x55
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			key := filepath.Join(dir, "key.pem")
			path := filepath.Join(dir, DatabaseFile)
			bad := damage(append([]byte(nil), good...))
			for p, text := range map[string][]byte{path: bad, key: []byte("key"), path + ".damaged-1": []byte("older")} {
				if err := os.WriteFile(p, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, dir)
			aside, reason := s.SetAside()
			if aside != path+".damaged-2" || reason == nil {
				t.Fatalf("SetAside = %q, %v", aside, reason)
			}
			if kept, err := os.ReadFile(aside); err != nil || string(kept) != string(bad) {
				t.Errorf("what was set aside is not the damaged file (%v)", err)
			}
			if kept, _ := os.ReadFile(key); string(kept) != "key" {
				t.Error("the key did not survive")
			}
			if err := s.Bucket("b").Put([]byte("k"), 1); err != nil {
				t.Errorf("the new database does not work: %v", err)
			}
		})
	}
}

func TestWholeDatabaseIsKept(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir)
	s := open(t, dir)
	if aside, reason := s.SetAside(); aside != "" || reason != nil {
		t.Fatalf("set aside to %q: %v", aside, reason)
	}
	var v value
	if err := s.Bucket("b").Get([]byte("001999"), &v); err != nil || v.N != 1999 {
		t.Errorf("value = %v, %v", v, err)
	}
}

func TestSystemErrorsSetNothingAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, DatabaseFile)
	if err := os.Mkdir(path, 0o700); err != nil { // EISDIR
		t.Fatal(err)
	}
	if s, err := Open(dir); err == nil {
		_ = s.Close()
		t.Fatal("a folder was opened as the database")
	}
	if left, _ := filepath.Glob(path + ".damaged-*"); len(left) > 0 {
		t.Errorf("set aside: %v", left)
	}
}

func TestScan(t *testing.T) {
	s := open(t, t.TempDir())
	b := s.Bucket("b")
	const n = scanEntries + 5
	err := s.Update(func(tx *Tx) error {
		for i := range n {
			if err := tx.Bucket("b").Put(fmt.Appendf(nil, "a%06d", i), i); err != nil {
				return err
			}
		}
		return tx.Bucket("b").Put([]byte("b"), "other")
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Release() // it is read all the same
	count := 0
	err = b.Scan([]byte("a"), func(key, raw []byte) error {
		if string(key) != fmt.Sprintf("a%06d", count) || string(raw) != fmt.Sprint(count) {
			t.Fatalf("value %d is %q: %s", count, key, raw)
		}
		count++
		return nil
	})
	if err != nil || count != n {
		t.Errorf("%d of %d values, %v", count, n, err)
	}
	stop := errors.New("stop")
	for _, at := range []int{1, scanEntries, scanEntries + 1} {
		count = 0
		err := b.Scan([]byte("a"), func([]byte, []byte) error {
			if count++; count == at {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || count != at {
			t.Errorf("ended with %v after %d, want after %d", err, count, at)
		}
	}
	if err := s.Bucket("none").Scan(nil, func([]byte, []byte) error { return stop }); err != nil {
		t.Error(err)
	}
}
