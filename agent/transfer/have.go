package transfer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// haveRequest is the body of POST /v1/have.
type haveRequest struct {
	Version int            `json:"v"`
	Roots   []content.Hash `json:"roots,omitempty"`   // of files
	Name    string         `json:"name,omitempty"`    // of a content that was sent to both, see swarmName
	Entries []int          `json:"entries,omitempty"` // of that: the files whose groups are asked for
}

// haveAnswer answers it.
type haveAnswer struct {
	Roots  bitmap         `json:"roots,omitempty"`  // those that the caller may have
	Named  bool           `json:"named,omitempty"`  // the content of that name is here, or comes
	Groups map[int]bitmap `json:"groups,omitempty"` // by entry: the groups that are here
}

// swarmName is the name between two devices of a content that a third one sends to both: it said the same token to both. Only who has
// the token can make the name, and it tells the token to nobody: not to the device that is asked and was not sent the content, and not for
// use towards a third.
func swarmName(token string, asker, asked identity.DeviceID) string {
	h := hmac.New(sha256.New, []byte(token))
	h.Write([]byte("nigh swarm"))
	h.Write(asker[:])
	h.Write(asked[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// A Held is a file of this device that another one may have.
type Held struct {
	Hash  content.Hash
	Tree  Tree        // the file alone; its Hash must return Hash
	Still func() bool // whether the device may still have it; called for every request
}

// A grant is a Held while a device may ask for it.
type grant struct {
	held Held
	used time.Time

	mu     sync.Mutex
	src    *source // nil until it is asked for
	leaves given
}

type peerHash struct {
	peer identity.DeviceID
	hash content.Hash
}

// holding is what the engine serves to other devices than the receivers of its own offers. Its zero value is ready.
type holding struct {
	mu      sync.Mutex
	grants  map[peerHash]*grant
	serving map[identity.DeviceID]int
	callers map[identity.DeviceID]*rate.Limiter
}

// allow bounds how often a device asks.
func (h *holding) allow(peer identity.DeviceID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.callers[peer]
	if l == nil {
		if h.callers == nil || len(h.callers) >= maxAskers {
			h.callers = map[identity.DeviceID]*rate.Limiter{} // who is bounded begins anew, which costs little
		}
		l = rate.NewLimiter(haveRate, haveBurst)
		h.callers[peer] = l
	}
	return l.Allow()
}

// begin bounds the bulk requests of one device that are served at once.
func (h *holding) begin(peer identity.DeviceID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving == nil {
		h.serving = map[identity.DeviceID]int{}
	}
	if h.serving[peer] >= maxServing {
		return false
	}
	h.serving[peer]++
	return true
}

func (h *holding) end(peer identity.DeviceID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.serving[peer]--; h.serving[peer] == 0 {
		delete(h.serving, peer)
	}
}

// grant keeps what a device was told that it may have; the one that was not used longest makes way.
func (h *holding) grant(peer identity.DeviceID, held Held) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.grants == nil {
		h.grants = map[peerHash]*grant{}
	}
	key := peerHash{peer, held.Hash}
	if g := h.grants[key]; g != nil && g.held.Tree.Root == held.Tree.Root && g.held.Tree.Path == held.Tree.Path {
		g.used = time.Now()
		return
	}
	if len(h.grants) >= maxGrants {
		var oldest peerHash
		for k, g := range h.grants {
			if o := h.grants[oldest]; o == nil || g.used.Before(o.used) {
				oldest = k
			}
		}
		delete(h.grants, oldest)
	}
	h.grants[key] = &grant{held: held, used: time.Now()}
}

// granted returns what a device may have under a hash, [ErrNotFound] when it may not.
func (h *holding) granted(peer identity.DeviceID, hash content.Hash) (*grant, error) {
	h.mu.Lock()
	g := h.grants[peerHash{peer, hash}]
	if g != nil {
		g.used = time.Now()
	}
	h.mu.Unlock()
	if g == nil {
		return nil, ErrNotFound
	}
	if !g.held.Still() {
		h.revoke(peer, hash, g)
		return nil, ErrNotFound
	}
	return g, nil
}

func (h *holding) revoke(peer identity.DeviceID, hash content.Hash, g *grant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.grants[peerHash{peer, hash}] == g {
		delete(h.grants, peerHash{peer, hash})
	}
}

// source lists the file of a grant; a file that is not there any more, or has another content, is [ErrNotFound].
func (g *grant) source(ctx context.Context) (*source, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.src != nil {
		return g.src, nil
	}
	src, err := walkTree(ctx, &g.held.Tree)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if entry, _ := src.from(0).next(); src.entries() != 1 || entry.Dir || entry.Hash != g.held.Hash {
		return nil, ErrNotFound
	}
	g.src = src
	return src, nil
}

// serveHave says which of the contents asked for are here and allowed to the caller.
func (e *Engine) serveHave(w http.ResponseWriter, r *http.Request, peer identity.DeviceID) error {
	if !e.trusted(peer) {
		return ErrNotFound
	}
	if !e.holding.allow(peer) {
		return ErrBusy
	}
	var req haveRequest
	if err := readJSON(r.Body, maxHaveBody, &req); err != nil {
		return err
	}
	if req.Version != version || len(req.Roots) > haveRoots || len(req.Entries) > haveEntries {
		return fmt.Errorf("%w: have", ErrProtocol)
	}
	var a haveAnswer
	if len(req.Roots) > 0 && e.cfg.Held != nil {
		held, err := e.cfg.Held(r.Context(), peer, req.Roots)
		if err != nil {
			return err
		}
		a.Roots = newBitmap(len(req.Roots))
		for i, root := range req.Roots {
			for _, h := range held {
				if h.Hash == root {
					e.holding.grant(peer, h)
					a.Roots.set(i)
					break
				}
			}
		}
	}
	if s := e.seedFor(peer, req.Name); s != nil {
		a.Named, a.Groups = true, map[int]bitmap{}
		for _, i := range req.Entries {
			if groups := s.groups(e, i); groups != nil {
				a.Groups[i] = groups
			}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a) // a lost peer is noticed on the connection
	return nil
}

// trusted reports whether content may be served to a device that was not offered it by this one.
func (e *Engine) trusted(peer identity.DeviceID) bool {
	return e.cfg.Trusted != nil && peer != e.cfg.Self && e.cfg.Trusted(peer)
}

// serveHeld answers a range of a file that is shared with the caller, or its leaves.
func (e *Engine) serveHeld(fn func(*Engine, *request) error) func(http.ResponseWriter, *http.Request, identity.DeviceID) error {
	return func(w http.ResponseWriter, r *http.Request, peer identity.DeviceID) error {
		if !e.trusted(peer) {
			return ErrNotFound
		}
		hash, err := content.ParseHash(r.PathValue("root"))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		g, err := e.holding.granted(peer, hash)
		if err != nil {
			return err
		}
		src, err := g.source(r.Context())
		if err != nil {
			e.holding.revoke(peer, hash, g)
			return err
		}
		if !e.holding.begin(peer) {
			return ErrBusy
		}
		defer e.holding.end(peer)
		entry, _ := src.from(0).next()
		q := &request{e: e, src: src, w: w, r: r, peer: peer, gate: &e.gatesOf(peer).up, rc: http.NewResponseController(w), leaves: g.leaves.sized(entry.Size)}
		err = q.answer(func() error { return fn(e, q) })
		if errors.Is(err, ErrChanged) {
			e.holding.revoke(peer, hash, g)
		}
		return err
	}
}

// askHave asks a device for what a pull lacks. It returns [ErrPeerGone], [ErrBusy], [ErrNotFound] or [ErrProtocol].
func (e *Engine) askHave(ctx context.Context, peer identity.DeviceID, q haveRequest) (a haveAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, haveTime)
	defer cancel()
	p, err := json.Marshal(q)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://nigh/v1/have", bytes.NewReader(p))
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrInternal, err)
	}
	resp, err := e.cfg.Peers.Control(peer).Do(req)
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	if resp.StatusCode/100 != 2 {
		_, err := readRefusal(resp)
		return a, cmp.Or(err, ErrProtocol)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxHaveAnswer+1))
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrPeerGone, err)
	}
	if len(raw) > maxHaveAnswer || json.Unmarshal(raw, &a) != nil || len(a.Groups) > haveEntries {
		return haveAnswer{}, fmt.Errorf("%w: answer to have", ErrProtocol)
	}
	return a, nil
}
