package share

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nigh/agent/clean"
	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
	"nigh/agent/store"
)

// Peers gives clients for requests to devices; session.Sessions is one. URLs are "http://nigh/v1/...".
type Peers interface {
	Control(identity.DeviceID) *http.Client
}

// An Offer is what a device asked for and may have.
type Offer struct {
	Peer  identity.DeviceID
	X     string // the transfer's name that the device chose
	Share string // ID of the share
	Name  string // of the share
	Root  string // its folder
	Path  string // of the entry below Root, "." for all of it
	// Skip reports whether a name is not part of the share, at any depth.
	Skip func(name string) bool
	// Hash returns the hash of the file at a path below Root when the index has it for just this file, else zero.
	Hash func(path string, st *unix.Stat_t) content.Hash
}

// Config of [Shares]. Store, State, Caller, Peers and Send are required.
type Config struct {
	Logger *slog.Logger // nil discards
	Store  *store.Store
	State  string        // the state folder, which is never shared
	Inbox  func() string // the folder of received files now; nil for none
	Peers  Peers
	// Caller returns the trusted device that sent a request, false for every other.
	Caller func(*http.Request) (identity.DeviceID, bool)
	// May reports whether a trusted device may see the share of this name and folder,
	// beside what the share itself says. nil: it may. It must not wait.
	May func(peer identity.DeviceID, name, folder string) bool
	// Send offers what was asked for. Its errors should wrap those of this package.
	Send func(context.Context, Offer) error
	// Changed is told that a share changed. It must not wait. May be nil.
	Changed func()
	// Inotify says that watching is not possible, as a machine without free watches does; for tests.
	Inotify error
}

// A record is what the store keeps of a share.
type record struct {
	ID     string              `json:"id"` // 8 hexadecimal digits
	Name   string              `json:"name"`
	Folder string              `json:"folder"`        // absolute, without links
	For    []identity.DeviceID `json:"for,omitempty"` // empty: all trusted devices
	Hidden bool                `json:"hidden,omitempty"`
	Ino    uint64              `json:"ino"` // of the folder, to know it from the place where it was mounted
}

// A State of a share.
type State string

// The states.
const (
	Scanning State = "scanning" // the index is not whole yet
	Ready    State = "ready"
	Missing  State = "missing" // the folder is not there, or cannot be read
	Full     State = "full"    // it has more than MaxEntries; the rest is served
)

// A folder is a share while the agent runs. Fields are guarded by Shares.mu.
type folder struct {
	record
	state   State
	why     string // the error, while it is missing
	polled  string // why inotify is not used, "" when it is
	counted bool   // the counts below are right
	counts
	skips map[string]counts // by directory: what was left out there
	dirty map[string]bool   // directories to scan
	all   bool              // scan it whole
	gone  bool              // removed: nothing may be written for it
	due   time.Time         // of the next whole scan, zero for none
	rest  time.Time         // no earlier one to verify a scan
}

// counts of a share, or of a directory's left out entries.
type counts struct {
	files, dirs, hashed int
	bytes               int64
	skipped             int // links, special files, names
	unreadable          int
}

// Info is what is shown of a share of this device.
type Info struct {
	ID, Name, Folder string
	For              []identity.DeviceID // empty: all trusted devices
	Hidden           bool
	State            State
	Why              string // while it is missing
	Polled           string // why it is scanned every ten minutes instead of watched, "" when it is watched
	Files, Dirs      int
	Bytes            int64
	Hashed           int // files with a known hash
	Skipped          int // links, special files and names that no receiver takes
	Unreadable       int
	Inbox            bool // it holds the inbox: what others send is shared too
}

// Shares are the shared folders of this device and its requests for those of others. Its methods are safe for concurrent use.
type Shares struct {
	cfg   Config
	log   *slog.Logger
	db    index
	scan  chan struct{} // something is to be scanned
	hash  chan struct{} // something may be to be hashed
	gate  gate
	quiet pause

	// From limits.go; tests shorten them.
	settle, hashSettle, verifyAfter time.Duration

	mu       sync.Mutex
	folders  map[string]*folder // by ID
	watcher  *fsnotify.Watcher  // nil when there is none
	noWatch  error              // why
	expected []expected         // oldest first
}

// New reads the shares from the store. Nothing is scanned or served before Run; the caller mounts Handler.
func New(cfg Config) (*Shares, error) {
	if cfg.Store == nil || cfg.State == "" || cfg.Peers == nil || cfg.Caller == nil || cfg.Send == nil {
		return nil, errors.New("share: Config without Store, State, Peers, Caller or Send")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.May == nil {
		cfg.May = func(identity.DeviceID, string, string) bool { return true }
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	s := &Shares{cfg: cfg, log: cfg.Logger, db: index{cfg.Store}, scan: make(chan struct{}, 1), hash: make(chan struct{}, 1),
		folders: map[string]*folder{}, settle: settle, hashSettle: hashSettle, verifyAfter: verifyAfter}
	err := cfg.Store.Bucket(bucketShares).ForEach(func(key, raw []byte) error {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil || r.ID != string(key) || len(r.ID) != idLength {
			s.log.Warn("Stored share not read", "err", err)
			return nil
		}
		s.folders[r.ID] = newFolder(r)
		return nil
	})
	if err == nil {
		err = s.loadExpected()
	}
	if err != nil {
		return nil, fmt.Errorf("share: load: %w", err)
	}
	return s, nil
}

func newFolder(r record) *folder {
	return &folder{record: r, state: Scanning, all: true, skips: map[string]counts{}, dirty: map[string]bool{}}
}

// Run keeps the index until ctx ends; then it waits for its goroutines and returns nil.
func (s *Shares) Run(ctx context.Context) error {
	err := s.cfg.Inotify
	var w *fsnotify.Watcher
	if err == nil {
		w, err = fsnotify.NewWatcher()
	}
	s.mu.Lock()
	s.watcher, s.noWatch = w, err
	s.mu.Unlock()
	if err != nil {
		s.log.Warn("Shared folders cannot be watched", "err", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	if w != nil {
		g.Go(func() error { return s.follow(ctx, w) })
	}
	g.Go(func() error { return s.keep(ctx) })
	g.Go(func() error { return s.hashAll(ctx) })
	err = g.Wait()
	if w != nil {
		err = errors.Join(err, w.Close())
	}
	return err
}

// Pause stops hashing while busy, for transfers need the disk and the processor.
func (s *Shares) Pause(busy bool) { s.quiet.set(busy) }

// List returns this device's shares by name.
func (s *Shares) List() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []Info{}
	for _, f := range s.folders {
		list = append(list, s.info(f))
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return strings.Compare(a.Name, b.Name) < 0
	})
	return list
}

// info is what is shown of f; with mu held.
func (s *Shares) info(f *folder) Info {
	i := Info{ID: f.ID, Name: f.Name, Folder: f.Folder, For: slices.Clone(f.For), Hidden: f.Hidden, State: f.state, Why: f.why,
		Polled: f.polled, Files: f.files, Dirs: f.dirs, Bytes: f.bytes, Hashed: f.hashed}
	if s.cfg.Inbox != nil {
		inbox := s.cfg.Inbox()
		i.Inbox = within(inbox, f.Folder) || within(f.Folder, inbox)
	}
	for _, c := range f.skips {
		i.Skipped += c.skipped
		i.Unreadable += c.unreadable
	}
	return i
}

// An AddRequest makes a share.
type AddRequest struct {
	Folder string              // absolute
	Name   string              // "" for the folder's own
	For    []identity.DeviceID // empty: all trusted devices
	Hidden bool                // with names that begin with a dot
}

// Add makes a share; its index is made in the background. It returns [ErrFolder], [ErrName], [ErrExists] or [ErrFull].
func (s *Shares) Add(req AddRequest) (Info, error) {
	path, ino, err := s.checkFolder(req.Folder)
	if err != nil {
		return Info{}, err
	}
	name := req.Name
	if name == "" {
		name = base(path)
	}
	if err := checkShareName(name); err != nil {
		return Info{}, err
	}
	if len(req.For) > MaxDevices {
		return Info{}, fmt.Errorf("%w: more than %d devices", ErrFull, MaxDevices)
	}
	r := record{ID: newID(), Name: name, Folder: path, For: slices.Clone(req.For), Hidden: req.Hidden, Ino: ino}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.folders) >= MaxShares {
		return Info{}, fmt.Errorf("%w: there are %d already", ErrFull, MaxShares)
	}
	for _, f := range s.folders {
		if receive.Fold(f.Name) == receive.Fold(name) {
			return Info{}, fmt.Errorf("%w: a share is called %s", ErrExists, clean.Text(f.Name))
		}
		if f.Folder == path {
			return Info{}, fmt.Errorf("%w: the folder is the share %s", ErrExists, clean.Text(f.Name))
		}
	}
	if s.folders[r.ID] != nil {
		return Info{}, fmt.Errorf("%w: by chance", ErrExists)
	}
	if err := s.cfg.Store.Bucket(bucketShares).Put([]byte(r.ID), r); err != nil {
		return Info{}, fmt.Errorf("share: add: %w", err)
	}
	f := newFolder(r)
	s.folders[r.ID] = f
	signal(s.scan)
	s.log.Info("Share added", "share", r.ID)
	return s.info(f), nil
}

// Remove ends a share; the folder itself is not touched. It returns what was removed, or [ErrUnknown].
func (s *Shares) Remove(name string) (Info, error) {
	s.mu.Lock()
	f := s.named(name)
	if f == nil {
		s.mu.Unlock()
		return Info{}, ErrUnknown
	}
	if err := s.cfg.Store.Bucket(bucketShares).Delete([]byte(f.ID)); err != nil {
		s.mu.Unlock()
		return Info{}, fmt.Errorf("share: remove: %w", err)
	}
	delete(s.folders, f.ID)
	f.gone = true
	info := s.info(f)
	s.mu.Unlock()
	s.unwatch(f.Folder)
	if err := s.db.clear(f.ID); err != nil {
		s.log.Warn("Index of a removed share stays in the database", "share", f.ID, "err", err)
	}
	s.log.Info("Share removed", "share", f.ID)
	return info, nil
}

// visible returns the share of that name, in any case and Unicode form, if peer may see it.
func (s *Shares) visible(peer identity.DeviceID, name string) (*folder, record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.folders {
		if receive.Fold(f.Name) == receive.Fold(name) && s.sees(peer, f) {
			return f, f.record, nil
		}
	}
	return nil, record{}, ErrNotFound
}

// Sees reports whether the share with this ID, as [Offer] has it, exists and a trusted device may see it.
func (s *Shares) Sees(peer identity.DeviceID, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.folders[id]
	return f != nil && s.sees(peer, f)
}

// sees reports whether a trusted device may see f; with mu held.
func (s *Shares) sees(peer identity.DeviceID, f *folder) bool {
	return f.audience(peer) && s.cfg.May(peer, f.Name, f.Folder)
}

// audience reports whether a trusted device may see the share.
func (r *record) audience(peer identity.DeviceID) bool {
	return len(r.For) == 0 || slices.Contains(r.For, peer)
}

// skip reports whether a name is left out without being counted.
func (r *record) skip(name string) bool {
	return receive.IsPart(name) || !r.Hidden && strings.HasPrefix(name, ".")
}

// idLength is that of a share's ID, which begins every key of its index.
const idLength = 8

func newID() string {
	var b [idLength / 2]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// A pause is a gate that is open or closed.
type pause struct {
	mu   sync.Mutex
	open chan struct{} // not nil while closed; closed when it opens
}

func (p *pause) set(busy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case busy && p.open == nil:
		p.open = make(chan struct{})
	case !busy && p.open != nil:
		close(p.open)
		p.open = nil
	}
}

// wait blocks while it is closed, or until ctx ends.
func (p *pause) wait(ctx context.Context) error {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	if open != nil {
		select {
		case <-open:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}
