package message

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/identity"
	"nigh/agent/store"
)

// Peers gives connections to devices; session.Sessions is one. URLs are "http://nigh/v1/...". The control connection is asked for,
// so that a message is never behind bulk data.
type Peers interface {
	Control(identity.DeviceID) *http.Client
}

// Config of an [Engine]. Store, Peers, Caller and Trusted are required.
type Config struct {
	Logger *slog.Logger // nil discards
	Store  *store.Store
	Peers  Peers
	// Caller says who sent a request, as its session proved; session.PeerFrom.
	Caller func(*http.Request) (identity.DeviceID, bool)
	// Trusted says whether a device may send messages here and is sent any. It must not wait.
	Trusted func(identity.DeviceID) bool
	// Near says whether a device is connected, so that it is worth asking again. It must not wait. nil means never: only
	// [Engine.Wake] goes on.
	Near func(identity.DeviceID) bool
	// Changed is told of every new message and of every change of one, some time after it. One call at a time; may call the Engine.
	Changed func(Message)
	// Gone is told the ID of a message that was dropped from the history, one call at a time with Changed.
	Gone func(id string)
	// Read is told when the number of unread messages changed, one call at a time with Changed.
	Read func(Unread)
}

// An Engine sends, receives and keeps messages. Its methods are safe for concurrent use. Nothing is sent before Run.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	db   journal
	kick chan struct{} // something may be sendable or is to be written
	news chan struct{} // there is something to report

	tasks sync.WaitGroup // what Run waits for

	// writing orders new messages: their numbers are given in the order in which they reach the disk. Taken before mu.
	writing sync.Mutex
	// marking orders the writing of marks. Taken before mu.
	marking sync.Mutex

	mu      sync.Mutex
	run     context.Context            // of Run while it runs
	last    uint64                     // the highest number given
	read    uint64                     // every message up to this one was read
	unread  int                        // messages received since
	entries []*entry                   // by number
	byID    map[string]*entry          // the same
	boxes   map[identity.DeviceID]*box // with something in it, or being delivered
	seen    map[identity.DeviceID][]seenID
	pace    map[identity.DeviceID]*pace
	saving  map[uint64]*entry // marks to be written
	active  int               // boxes being delivered
	changed []uint64          // numbers to report, oldest first
	gone    []string          // IDs to report
	marked  bool              // the read mark or the unread number is to be reported
}

// An entry is what is held in memory of a message; its text is in the store.
type entry struct {
	seq       uint64
	id        string
	direction Direction
	peer      identity.DeviceID
	cost      int         // bytes of the store
	bytes     int         // of the text
	to        []Recipient // while somebody waits or marks are to be written, else nil
	reported  bool        // in Engine.changed
}

// waiting counts the devices that an entry waits for.
func (en *entry) waiting() int {
	n := 0
	for _, r := range en.to {
		if r.State == Waiting {
			n++
		}
	}
	return n
}

// A box holds what waits for one device.
type box struct {
	queue    []*entry // oldest first
	bytes    int      // of their texts
	busy     bool     // a task delivers
	stop     context.CancelCauseFunc
	landed   chan struct{} // closed when the task ends
	woken    bool          // Wake came while a task was busy
	tries    int
	earliest time.Time // of the next try
	parked   bool      // only Wake goes on
}

// A seenID is an id that a device used.
type seenID struct {
	peer identity.DeviceID
	seq  uint64
	wire wireID
}

// A pace bounds what one device may send.
type pace struct{ messages, bytes *rate.Limiter }

// New loads the messages of the store; those that wait go on when their devices are there. It does not touch the network.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Peers == nil || cfg.Caller == nil || cfg.Trusted == nil {
		return nil, errors.New("message: Config without Store, Peers, Caller or Trusted")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Near == nil {
		cfg.Near = func(identity.DeviceID) bool { return false }
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Message) {}
	}
	if cfg.Gone == nil {
		cfg.Gone = func(string) {}
	}
	if cfg.Read == nil {
		cfg.Read = func(Unread) {}
	}
	e := &Engine{
		cfg: cfg, log: cfg.Logger, db: journal{cfg.Store}, kick: make(chan struct{}, 1), news: make(chan struct{}, 1),
		byID: map[string]*entry{}, boxes: map[identity.DeviceID]*box{}, seen: map[identity.DeviceID][]seenID{},
		pace: map[identity.DeviceID]*pace{}, saving: map[uint64]*entry{},
	}
	if err := e.load(); err != nil {
		return nil, fmt.Errorf("message: load: %w", err)
	}
	return e, nil
}

func (e *Engine) load() error {
	e.last, e.read = e.db.mark(markLast), e.db.mark(markRead)
	damaged, err := e.db.records(func(r record) {
		e.last = max(e.last, r.Seq)
		if e.byID[r.ID] != nil {
			r.ID = newID() // a copied record: the name is only ours
		}
		en := e.insert(r)
		for _, to := range r.To {
			if to.State == Waiting {
				b := e.box(to.Peer)
				b.queue, b.bytes, b.parked = append(b.queue, en), b.bytes+en.bytes, true
			}
		}
		if en.waiting() == 0 {
			en.to = nil
		}
	})
	if err != nil {
		return err
	}
	lost, err := e.db.seen(func(peer identity.DeviceID, seq uint64, wire wireID) {
		e.last = max(e.last, seq)
		e.seen[peer] = append(e.seen[peer], seenID{peer, seq, wire})
	})
	if damaged+lost > 0 {
		e.log.Warn("Damaged messages were set aside", "messages", damaged, "ids", lost)
	}
	return err
}

// insert adds a record to the tables; with mu held or before anyone else has the engine.
func (e *Engine) insert(r record) *entry {
	en := &entry{seq: r.Seq, id: r.ID, direction: r.Direction, peer: r.Peer, cost: r.cost(), bytes: len(r.Text), to: slices.Clone(r.To)}
	e.entries = append(e.entries, en)
	e.byID[r.ID] = en
	if r.Direction == Receive && r.Seq > e.read {
		e.unread++
	}
	return en
}

// box returns the outbox of a device, making it; with mu held.
func (e *Engine) box(id identity.DeviceID) *box {
	b := e.boxes[id]
	if b == nil {
		b = &box{}
		e.boxes[id] = b
	}
	return b
}

// Run sends what can be sent until ctx ends, then writes what is to be written, waits for all its goroutines and returns nil. Call
// it once.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.run != nil {
		e.mu.Unlock()
		return errRunning
	}
	e.run = ctx
	var strangers []identity.DeviceID
	for id := range e.boxes {
		if !e.cfg.Trusted(id) {
			strangers = append(strangers, id)
		}
	}
	e.mu.Unlock()
	for _, id := range strangers {
		e.Dismiss(id) // its trust ended when nobody looked
	}
	reported := make(chan struct{})
	go e.reportAll(ctx, reported)
	var saveAt time.Time // not before: the disk is full
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		next := e.schedule(ctx)
		if !time.Now().Before(saveAt) {
			saveAt, _ = e.save()
		}
		if !saveAt.IsZero() && (next.IsZero() || saveAt.Before(next)) {
			next = saveAt
		}
		if next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
		case <-e.kick:
		case <-timer.C:
		}
	}
	e.tasks.Wait()
	_, _ = e.save() // it was logged
	<-reported
	e.report()
	return nil
}

// save writes the marks that changed, in one step. It returns when to try again what could not be written.
func (e *Engine) save() (again time.Time, err error) {
	e.marking.Lock()
	defer e.marking.Unlock()
	e.mu.Lock()
	if len(e.saving) == 0 {
		e.mu.Unlock()
		return time.Time{}, nil
	}
	marks := make(map[uint64][]Recipient, len(e.saving))
	for seq, en := range e.saving {
		marks[seq] = slices.Clone(en.to)
	}
	written := e.saving
	e.saving = map[uint64]*entry{}
	e.mu.Unlock()
	err = e.db.saveMarks(marks)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		e.log.Error("Marks of messages not saved", "err", err)
		for seq, en := range written {
			e.saving[seq] = en
		}
		return time.Now().Add(saveRetry), fmt.Errorf("message: %w", err)
	}
	for seq, en := range written {
		if e.saving[seq] == nil && en.waiting() == 0 {
			en.to = nil // the store has it
		}
	}
	return time.Time{}, nil
}

// reportAll reports changes until ctx ends.
func (e *Engine) reportAll(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.news:
			e.report()
		}
	}
}

// report tells what changed, until there is nothing more to tell.
func (e *Engine) report() {
	for {
		e.mu.Lock()
		var seq uint64
		var id string
		var unread *Unread
		switch {
		case len(e.changed) > 0:
			seq = e.changed[0]
			e.changed = e.changed[1:]
			if en := e.entry(seq); en != nil {
				en.reported = false
			}
		case len(e.gone) > 0:
			id = e.gone[0]
			e.gone = e.gone[1:]
		case e.marked:
			e.marked = false
			unread = &Unread{Read: e.read, Count: e.unread}
		default:
			e.mu.Unlock()
			return
		}
		e.mu.Unlock()
		switch {
		case unread != nil:
			e.cfg.Read(*unread)
		case id != "":
			e.cfg.Gone(id)
		default:
			// One that was dropped since is reported as gone.
			if m, err := e.message(seq); err == nil {
				e.cfg.Changed(m)
			}
		}
	}
}

// changedLocked asks for a report of en; with mu held.
func (e *Engine) changedLocked(en *entry) {
	if !en.reported {
		en.reported = true
		e.changed = append(e.changed, en.seq)
	}
	signal(e.news)
}

// entry finds an entry by its number, nil when there is none; with mu held.
func (e *Engine) entry(seq uint64) *entry {
	i, ok := slices.BinarySearchFunc(e.entries, seq, func(en *entry, seq uint64) int {
		switch {
		case en.seq < seq:
			return -1
		case en.seq > seq:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return e.entries[i]
}

// message reads a message with its marks; [ErrNotFound] when there is none.
func (e *Engine) message(seq uint64) (Message, error) {
	e.mu.Lock()
	en := e.entry(seq)
	if en == nil {
		e.mu.Unlock()
		return Message{}, ErrNotFound
	}
	// Before the store is read: what is not here is there.
	id, to := en.id, slices.Clone(en.to)
	e.mu.Unlock()
	r, err := e.db.get(seq)
	if errors.Is(err, fs.ErrNotExist) {
		return Message{}, ErrNotFound // dropped meanwhile
	}
	if err != nil {
		return Message{}, fmt.Errorf("message: %w", err)
	}
	r.ID = id
	if to != nil {
		r.To = to
	}
	return r.Message, nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
