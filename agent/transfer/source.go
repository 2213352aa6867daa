package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/content"
	"nigh/agent/receive"
	"nigh/agent/sandbox"
)

// Skipped says what of the paths to send is not sent, and is told to both persons.
type Skipped struct {
	Links   int `json:"links,omitempty"`   // symbolic links: never followed
	Special int `json:"special,omitempty"` // devices, FIFOs, sockets
	Names   int `json:"names,omitempty"`   // names that no receiver takes, see package receive
	// Unreadable files and folders of a [Tree]; elsewhere they are an error.
	Unreadable int      `json:"unreadable,omitempty"`
	Examples   []string `json:"examples,omitempty"`
}

// A Tree is a folder out of which something is sent for another device that asked for it. No link below Root is followed, not even
// one that stays inside.
type Tree struct {
	Root string // absolute
	Path string // what is sent, below Root; "." is all of it
	As   string // top-level name of Root itself
	// Skip reports whether a name is left out, at any depth, without being counted.
	Skip func(name string) bool
	// Hash returns the hash of the file at a path below Root, zero when it is not known. The receiver holds the file to it.
	Hash func(path string, st *unix.Stat_t) content.Hash
}

func (s *Skipped) note(count *int, p string) {
	*count++
	if len(s.Examples) < maxSkippedExamples {
		if receive.CheckPath(p) != nil {
			p = strconv.QuoteToASCII(p)
		}
		s.Examples = append(s.Examples, p)
	}
}

// A source is what was walked to be sent: a manifest, and where its files lie and what they looked like. It is immutable and may be
// offered to several peers.
type source struct {
	*manifest
	skipped Skipped
	places  map[string]place // by top-level name
	stamps  []int64          // by entry: ctime in nanoseconds, which no program can set
}

// A place is where a top-level name lies.
type place struct {
	Dir  string `json:"dir"`  // absolute
	Name string `json:"name"` // in it
}

// A walker builds a source.
type walker struct {
	ctx  context.Context
	b    builder
	src  source
	tree *Tree  // nil for what the person sends
	top  string // with tree: the top-level name
}

// walk lists paths. An unreadable file or directory is an error that names it; nothing has been offered then.
func walk(ctx context.Context, paths []string) (*source, error) {
	w := &walker{ctx: ctx, src: source{places: map[string]place{}}}
	tops := make([]string, 0, len(paths))
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			return nil, fmt.Errorf("%w: %s is not an absolute path", ErrUnreadable, strconv.Quote(p))
		}
		p = filepath.Clean(p)
		at := place{Dir: filepath.Dir(p), Name: filepath.Base(p)}
		if at.Name == "/" {
			return nil, fmt.Errorf("%w: / has no name", ErrNotRegular)
		}
		fi, err := os.Lstat(p)
		if err != nil {
			return nil, unreadable(p, err)
		}
		if !fi.Mode().IsRegular() && !fi.IsDir() {
			return nil, fmt.Errorf("%w: %s", ErrNotRegular, strconv.Quote(p))
		}
		if err := receive.CheckName(at.Name); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrName, strconv.Quote(p), err)
		}
		name := at.Name
		for n := 0; w.src.places[name] != (place{}); n++ {
			if w.src.places[name] == at {
				name = "" // the same path twice
				break
			}
			name = receive.Numbered(at.Name, fi.IsDir(), n+1)
		}
		if name != "" {
			w.src.places[name] = at
			tops = append(tops, name)
		}
	}
	slices.Sort(tops)
	for _, name := range tops {
		at := w.src.places[name]
		fd, err := openat(unix.AT_FDCWD, at.Dir, unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return nil, unreadable(at.Dir, err)
		}
		dir := &directory{File: os.NewFile(uintptr(fd), at.Dir), names: []string{at.Name}}
		err = w.add(dir, 0, name)
		dir.close()
		if err != nil {
			return nil, err
		}
	}
	if w.b.m.entries() == 0 {
		return nil, ErrNothing
	}
	w.src.manifest = w.b.finish()
	return &w.src, nil
}

// walkTree lists what a device asked for. What is not there any more is [ErrNotFound].
func walkTree(ctx context.Context, tree *Tree) (*source, error) {
	w := &walker{ctx: ctx, tree: tree, top: path.Base(tree.Path), src: source{places: map[string]place{}}}
	if tree.Path == "." {
		w.top = tree.As
	} else if err := receive.CheckPath(tree.Path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrName, err)
	}
	if err := receive.CheckName(w.top); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrName, err)
	}
	fd, err := openat(unix.AT_FDCWD, tree.Root, unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	dir := os.NewFile(uintptr(fd), tree.Root)
	defer func() { _ = dir.Close() }() // only read
	parents, name := path.Split(tree.Path)
	for component := range strings.SplitSeq(strings.TrimSuffix(parents, "/"), "/") {
		if component == "" {
			break
		}
		fd, err := openat(int(dir.Fd()), component, unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		_ = dir.Close()
		dir = os.NewFile(uintptr(fd), filepath.Join(dir.Name(), component))
	}
	w.src.places[w.top] = place{Dir: tree.Root, Name: tree.Path}
	if err := w.add(&directory{File: dir, names: []string{name}}, 0, w.top); err != nil {
		return nil, err
	}
	if w.b.m.entries() == 0 {
		return nil, ErrNotFound
	}
	w.src.manifest = w.b.finish()
	return &w.src, nil
}

// skips reports whether what is at p of the manifest is left out because it cannot be read, and counts it.
func (w *walker) skips(p string, err error) bool {
	if w.tree == nil || err == nil || p == w.top && !errors.Is(err, fs.ErrPermission) {
		return false
	}
	w.src.skipped.note(&w.src.skipped.Unreadable, p)
	return true
}

// A directory is open while it is listed.
type directory struct {
	*os.File
	names []string         // that are listed
	held  []sandbox.Opened // what was opened with an earlier one of them: the last of names[:until]
	until int
}

// open opens the directory that is the name i, and those that come after it when the broker is asked, which costs more than to open them.
// Each i is greater than the one before.
func (d *directory) open(i int) (int, error) {
	for ; len(d.held) > max(0, d.until-i); d.held = d.held[1:] {
		closeOpened(d.held[0])
	}
	if len(d.held) == 0 && i == len(d.names)-1 {
		return openat(int(d.Fd()), d.names[i], unix.O_DIRECTORY|unix.O_NOFOLLOW) // which may be ".", a whole share
	}
	if len(d.held) == 0 {
		more := func() []string { return d.names[i+1 : min(i+aheadDirs, len(d.names))] }
		d.held = sandbox.OpenAll(int(d.Fd()), d.names[i], more, unix.O_RDONLY|unix.O_DIRECTORY)
		d.until = i + len(d.held)
	}
	o := d.held[0]
	d.held = d.held[1:]
	return o.FD, o.Err
}

func (d *directory) close() {
	closeOpened(d.held...)
	_ = d.Close() // only read
}

// add lists what has the name i of dir under the path p of the manifest.
func (w *walker) add(dir *directory, i int, p string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	real := dir.names[i]
	var st unix.Stat_t
	if w.tree != nil && w.tree.Skip != nil && p != w.top && w.tree.Skip(real) {
		return nil
	}
	if err := unix.Fstatat(int(dir.Fd()), real, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, fs.ErrNotExist) && (w.tree != nil || strings.Contains(p, "/")) {
			return nil // removed since its directory was read, or asked for too late
		}
		if w.skips(p, err) {
			return nil
		}
		return unreadable(filepath.Join(dir.Name(), real), err)
	}
	if receive.CheckPath(p) != nil {
		w.src.skipped.note(&w.src.skipped.Names, p)
		return nil
	}
	e := Entry{Path: p, Mtime: time.Unix(st.Mtim.Unix())}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		w.src.skipped.note(&w.src.skipped.Links, p)
		return nil
	case unix.S_IFDIR:
		e.Dir = true
		if err := w.entry(e, &st); err != nil {
			return err
		}
		return w.dir(dir, i, p)
	case unix.S_IFREG:
		if err := readable(int(dir.Fd()), real, &st); err != nil {
			if w.skips(p, err) {
				return nil
			}
			return unreadable(filepath.Join(dir.Name(), real), err)
		}
		e.Size, e.Executable = st.Size, st.Mode&0o111 != 0
		if w.tree != nil && w.tree.Hash != nil {
			e.Hash = w.tree.Hash(path.Join(w.tree.Path, strings.TrimPrefix(strings.TrimPrefix(p, w.top), "/")), &st)
		}
		return w.entry(e, &st)
	default:
		w.src.skipped.note(&w.src.skipped.Special, p)
		return nil
	}
}

// readable returns why a file cannot be read. Of a file of our own the mode says that it can: an access list does not limit its owner.
func readable(dirfd int, name string, st *unix.Stat_t) error {
	if st.Mode&unix.S_IRUSR != 0 && int(st.Uid) == self {
		return nil
	}
	return unix.Faccessat(dirfd, name, unix.R_OK, 0)
}

var self = unix.Geteuid()

func (w *walker) entry(e Entry, st *unix.Stat_t) error {
	if err := w.b.encode(e); err != nil {
		return err
	}
	w.src.stamps = append(w.src.stamps, st.Ctim.Nano())
	return nil
}

func (w *walker) dir(parent *directory, i int, p string) error {
	full := filepath.Join(parent.Name(), parent.names[i])
	fd, err := parent.open(i)
	if err != nil {
		if w.skips(p, err) {
			return nil // its entry stays: an empty folder, counted
		}
		return unreadable(full, err)
	}
	dir := &directory{File: os.NewFile(uintptr(fd), full)}
	defer dir.close()
	if dir.names, err = dir.Readdirnames(-1); err != nil {
		if w.skips(p, err) {
			return nil
		}
		return unreadable(full, err)
	}
	slices.Sort(dir.names)
	for i, name := range dir.names {
		if err := w.add(dir, i, p+"/"+name); err != nil {
			return err
		}
	}
	return nil
}

func unreadable(p string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("%w: %s: %w", ErrUnreadable, strconv.Quote(p), err)
}
