package transfer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
	"nigh/agent/receive"
	"nigh/agent/store"
)

// Peers gives connections to devices; session.Sessions is one. URLs are "http://nigh/v1/...". A client must not follow redirects and
// should have no timeout of its own.
type Peers interface {
	Control(identity.DeviceID) *http.Client
	Bulk(identity.DeviceID) *http.Client
}

// An Answer to an offer.
type Answer int

// The answers.
const (
	AnswerAsk    Answer = iota // the offer waits for [Engine.Accept] or [Engine.Refuse]
	AnswerAccept               // it is received into the inbox, or the folder of the decision
	AnswerRefuse               // it is refused before a byte reaches the disk, and not remembered
)

// A Decision answers an offer. Reason is told to the peer with a refusal.
type Decision struct {
	Answer Answer
	Reason string
	Into   string       // absolute path of the folder to receive into, "" for the inbox
	Want   content.Hash // the offer must be one file with this content; zero when any is right
	Asked  bool         // it is what this device asked for
	Why    error        // of a refusal, see Forbid; nil without
	// Stranger: the offer comes from a device that is not trusted. Of those fewer wait for an answer, and they
	// take no place of others.
	Stranger bool
}

// The decisions that need no words.
var (
	Ask    = Decision{Answer: AnswerAsk}
	Accept = Decision{Answer: AnswerAccept}
)

// Refuse returns the decision to refuse, with a reason for the peer.
func Refuse(reason string) Decision { return Decision{Answer: AnswerRefuse, Reason: reason} }

// Config of an [Engine]. Store, Peers, Caller and Inbox are required.
type Config struct {
	Logger   *slog.Logger // nil discards
	Store    *store.Store
	Self     identity.DeviceID
	Peers    Peers
	Caller   func(*http.Request) (identity.DeviceID, bool) // who sent a request, as its session proved; session.PeerFrom
	Name     func(identity.DeviceID) string                // for the log only; nil shows the short ID
	Inbox    string                                        // absolute path of the folder to receive into
	Conflict receive.Policy                                // when a top-level name is taken
	Decide   func(Offer) Decision                          // nil asks. Called by the handler, may block for the peer's patience
	Limits   func() Limits                                 // nil has none. Asked again when LimitsChanged says so
	Rates    func(identity.DeviceID) Rates                 // of one device, beside those of Limits; likewise
	Permit   func(Transfer) error                          // whether the rules still let a transfer be received, asked before its bytes: nil, ErrOff, ErrSize or ErrQuota. nil lets all
	Received func(Transfer)                                // the files of a transfer have their final names; called once for each, again after a crash at that very moment. nil is not told

	// Other holders of what is received, and of what this device has; nil functions know of none.
	Near    func() []identity.DeviceID                                                           // trusted devices that are connected
	Trusted func(identity.DeviceID) bool                                                         // whether a device may ask for what it was not offered
	Held    func(ctx context.Context, peer identity.DeviceID, of []content.Hash) ([]Held, error) // those of the files that peer may have and this device shares
	Changed func(Transfer)                                                                       // a transfer changed: states soon, progress 4 times a second. One call at a time; may call the Engine
}

// An Engine sends and receives. Its methods are safe for concurrent use. Nothing moves before Run.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	db   journal
	kick chan struct{} // something may be startable
	news chan struct{} // changed is not empty

	tasks sync.WaitGroup // what Run waits for

	// From limits.go; tests shorten them.
	firstByte, stall, holderStall, proveNext, senderIdle, slowTurn, late time.Duration

	mu      sync.Mutex
	run     context.Context // of Run while it runs
	all     map[string]*transfer
	byX     map[peerX]*transfer
	changed []string // IDs to report, oldest first
	running int      // pulls
	slots   map[identity.DeviceID]chan struct{}
	limits  Limits
	sources atomic.Int32 // of limits, for those who have the mutex of a board

	gates   gates               // guards itself
	givings map[string]*givings // by source key
	hashed  hashed
	steady  steady

	holding holding
}

// A peerX names a transfer as the wire does. Two peers may choose the same x, and so may we.
type peerX struct {
	peer      identity.DeviceID
	x         string
	direction Direction
}

// A transfer is the engine's side of a record. Fields are guarded by Engine.mu unless they say otherwise.
type transfer struct {
	rec    record
	saving sync.Mutex // orders writes of rec; taken before Engine.mu
	meter  meter      // guards itself
	dirty  bool       // in Engine.changed
	report time.Time  // of the last progress

	busy     bool          // a task works on it: pull, offer, cleanup
	telling  bool          // a task tells its notice or progress
	ahead    bool          // the notice that is told comes before the next request: "failed" that came after it would end it
	progress *stateMessage // receive: what the sender is told when there is no notice
	tries    int
	earliest time.Time               // of the next try; far for "only after Wake"
	cancel   context.CancelCauseFunc // of the pull
	yielding bool                    // the pull ends to make room
	turn     turn                    // of the pull
	wentOn   time.Time               // receive: when the sender last said that it goes on
	passed   time.Time               // when it gave up its turn because it was slow
	queued   bool                    // receive: the sender was told that it waits for its turn
	sources  int
	pull     *pull // while it runs
	seed     *seed // receive: what is served of it to other devices

	src      *source       // send: loaded when first asked for
	walked   time.Time     // send: when its paths were last looked at, by this process
	stop     chan struct{} // send: closed to end requests being served
	serving  int           // send
	lastSeen time.Time     // send: of the last request's end
	stopped  time.Time     // send: when the receiver said that it asks for nothing now; zero when it said otherwise since
}

// New loads the transfers of the store; those that were moving are queued. It does not touch the network.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Peers == nil || cfg.Caller == nil || !filepath.IsAbs(cfg.Inbox) {
		return nil, errors.New("transfer: Config without Store, Peers, Caller or an absolute Inbox")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Name == nil {
		cfg.Name = identity.DeviceID.Short
	}
	if cfg.Decide == nil {
		cfg.Decide = func(Offer) Decision { return Ask }
	}
	if cfg.Limits == nil {
		cfg.Limits = func() Limits { return Limits{} }
	}
	if cfg.Rates == nil {
		cfg.Rates = func(identity.DeviceID) Rates { return Rates{} }
	}
	if cfg.Permit == nil {
		cfg.Permit = func(Transfer) error { return nil }
	}
	if cfg.Received == nil {
		cfg.Received = func(Transfer) {}
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Transfer) {}
	}
	e := &Engine{cfg: cfg, log: cfg.Logger, db: journal{cfg.Store}, kick: make(chan struct{}, 1), news: make(chan struct{}, 1),
		all: map[string]*transfer{}, byX: map[peerX]*transfer{}, slots: map[identity.DeviceID]chan struct{}{}, firstByte: firstByte, stall: stall,
		holderStall: holderStall, proveNext: proveNext, senderIdle: senderIdle, slowTurn: slowTurn, late: lateRequest}
	e.limit(cfg.Limits())
	e.gates = gates{up: newValve(e.limits.Up), down: newValve(e.limits.Down), of: map[identity.DeviceID]*deviceGates{}}
	err := e.db.records(func(r record, err error) {
		if err != nil {
			e.log.Warn("Stored transfer not read", "err", err)
			return
		}
		if r.State == Running || r.State == Verifying {
			r.State = Queued
		}
		e.insert(&transfer{rec: r})
	})
	if err != nil {
		return nil, fmt.Errorf("transfer: load: %w", err)
	}
	return e, nil
}

// insert adds t to the tables; with mu held or before anyone else has the engine.
func (e *Engine) insert(t *transfer) {
	t.stop = make(chan struct{})
	e.all[t.rec.ID] = t
	e.byX[t.rec.key()] = t
}

func (r *record) key() peerX { return peerX{r.Peer, r.Offer.X, r.Direction} }

// Run moves what can be moved until ctx ends; then it stops in an order that lets everything go on later, waits for all its goroutines
// and returns nil. Call it once.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	e.run = ctx
	e.mu.Unlock()
	reported := make(chan struct{})
	go e.reportAll(ctx, reported)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if next := e.schedule(); next.IsZero() {
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
	e.mu.Lock()
	e.run = nil // no new tasks
	for _, t := range e.all {
		t.stopServing()
	}
	e.mu.Unlock()
	e.tasks.Wait()
	<-reported
	e.drain()
	return nil
}

// reportAll calls Changed for every change until ctx ends.
func (e *Engine) reportAll(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.news:
			e.drain()
		}
	}
}

func (e *Engine) drain() {
	for {
		e.mu.Lock()
		if len(e.changed) == 0 {
			e.mu.Unlock()
			return
		}
		id := e.changed[0]
		e.changed = e.changed[1:]
		t := e.all[id]
		var snapshot Transfer
		if t != nil {
			t.dirty = false
			snapshot = t.snapshot()
		}
		e.mu.Unlock()
		if t != nil {
			e.cfg.Changed(snapshot)
		}
	}
}

// changedLocked asks for a report of t; with mu held.
func (e *Engine) changedLocked(t *transfer) {
	if !t.dirty {
		t.dirty = true
		e.changed = append(e.changed, t.rec.ID)
	}
	signal(e.news)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// set changes the state of t with the reason; with mu held. A change that the table does not allow is a mistake of ours or a lie of the
// peer: it is logged and not made, and set returns false.
func (e *Engine) set(t *transfer, to State, why error) bool {
	if !allowed(t.rec.Direction, t.rec.State, to) {
		e.log.Warn("State change refused", "transfer", t.rec.ID, "from", t.rec.State, "to", to)
		return false
	}
	from := t.rec.State
	t.rec.State, t.rec.Code, t.rec.Error = to, Code(why), ""
	if why != nil {
		t.rec.Error = why.Error()
	}
	if to != Running {
		t.meter.reset()
		t.sources = 0
		for i := range t.rec.Holders {
			t.rec.Holders[i].Active = false
		}
	}
	t.rec.Ended = time.Time{}
	if to.Ended() {
		t.rec.Ended = time.Now()
		t.rec.PausedHere, t.rec.PausedThere = false, false
	}
	e.changedLocked(t)
	if from != to {
		e.log.Info("Transfer changed", "transfer", t.rec.ID, "peer", t.rec.Peer.Short(), "direction", t.rec.Direction, "state", to,
			"reason", t.rec.Code)
	}
	return true
}

// save writes the record of t as it is now. Call it without mu.
func (e *Engine) save(t *transfer) error {
	t.saving.Lock()
	defer t.saving.Unlock()
	e.mu.Lock()
	rec := t.rec
	rec.Failures, rec.Holders = slices.Clone(rec.Failures), slices.Clone(rec.Holders)
	gone := e.all[rec.ID] != t
	e.mu.Unlock()
	if gone {
		return nil
	}
	if err := e.db.save(&rec); err != nil {
		e.log.Error("Transfer not saved", "transfer", rec.ID, "err", err)
		return fmt.Errorf("transfer: save: %w", err)
	}
	return nil
}

// snapshot is what is shown; with mu held.
func (t *transfer) snapshot() Transfer {
	r := &t.rec
	s := Transfer{ID: r.ID, X: r.Offer.X, Origin: r.Origin, Direction: r.Direction, Peer: r.Peer, Name: r.Offer.Label, Names: r.Offer.Names, Tops: r.Offer.Tops,
		Files: r.Offer.Files, Dirs: r.Offer.Dirs, BytesTotal: r.Offer.Bytes, BytesDone: min(r.Done, r.Offer.Bytes), Sent: r.Sent,
		State: r.State, Error: r.Error, ErrorCode: r.Code, Reason: r.Reason, Sources: t.sources, Holders: slices.Clone(r.Holders), Path: r.Path, Hash: r.Hash,
		Dotfiles: r.Offer.Dotfiles, Executables: r.Offer.Executables, Skipped: r.Offer.Skipped, Failures: slices.Clone(r.Failures),
		FilesFailed: r.FilesFailed, Asked: r.Asked, Offered: r.Direction == Receive || r.Offered, PausedHere: r.PausedHere, PausedThere: r.PausedThere, Started: r.Started, Ended: r.Ended}
	if s.Name == "" {
		s.Name = strings.Join(r.Offer.Names[:min(1, len(r.Offer.Names))], "")
	}
	if r.State == Running {
		s.Rate = t.meter.value(time.Now())
	}
	return s
}

// Transfers returns all transfers, oldest first.
func (e *Engine) Transfers() []Transfer {
	e.mu.Lock()
	defer e.mu.Unlock()
	list := make([]Transfer, 0, len(e.all))
	for _, t := range e.all {
		list = append(list, t.snapshot())
	}
	sort.Slice(list, func(i, j int) bool {
		if c := list[i].Started.Compare(list[j].Started); c != 0 {
			return c < 0
		}
		return list[i].ID < list[j].ID
	})
	return list
}

// Transfer returns one transfer or [ErrNotFound].
func (e *Engine) Transfer(id string) (Transfer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.all[id]
	if t == nil {
		return Transfer{}, ErrNotFound
	}
	return t.snapshot(), nil
}

// prune forgets the oldest finished transfers over the bound.
func (e *Engine) prune() {
	e.mu.Lock()
	var ended, unanswered []*transfer
	for _, t := range e.all {
		switch {
		case !t.rec.State.Ended() || t.busy || t.telling || t.rec.Cleanup:
		case t.rec.Direction == Receive && t.rec.Into == "":
			unanswered = append(unanswered, t)
		default:
			ended = append(ended, t)
		}
	}
	ended = append(oldest(ended, maxHistory), oldest(unanswered, maxNever)...)
	type gone struct{ id, source string }
	var list []gone
	for _, t := range ended {
		if e.resumable(t) {
			t.rec.Cleanup = true // its parts first
			continue
		}
		delete(e.all, t.rec.ID)
		delete(e.byX, t.rec.key())
		list = append(list, gone{t.rec.ID, e.leaveSource(t)})
	}
	e.mu.Unlock()
	for _, g := range list {
		if err := e.db.forget(g.id, g.source); err != nil {
			e.log.Error("Transfer not forgotten", "transfer", g.id, "err", err)
		}
	}
}

// oldest returns those that ended first, all but the last keep.
func oldest(list []*transfer, keep int) []*transfer {
	sort.Slice(list, func(i, j int) bool { return list[i].rec.Ended.Before(list[j].rec.Ended) })
	return list[:max(0, len(list)-keep)]
}

// leaveSource parts t from its source and returns the source's key when no other transfer has it; with mu held.
func (e *Engine) leaveSource(t *transfer) string {
	key := t.rec.Source
	t.rec.Source, t.src = "", nil
	for _, o := range e.all {
		if o.rec.Source == key {
			return ""
		}
	}
	delete(e.givings, key)
	return key
}

// final reports whether a sender's transfer in this state will never be asked for again. A failed one may be.
func (s State) final() bool { return s == Done || s == Refused }

// progressed counts n bytes of t and reports them at most every progressEvery.
func (e *Engine) progressed(t *transfer, done, sent int64) {
	now := time.Now()
	t.meter.add(sent, now)
	e.mu.Lock()
	defer e.mu.Unlock()
	t.rec.Done += done
	t.rec.Sent += sent
	t.tries = 0 // it moves
	if now.Sub(t.report) >= progressEvery {
		t.report = now
		e.changedLocked(t)
	}
}

// hashOf is the hash shown for a transfer of a single file.
func hashOf(o *Offer, h content.Hash) content.Hash {
	if o.Files == 1 && o.Dirs == 0 {
		return h
	}
	return content.Hash{}
}
