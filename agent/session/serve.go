package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"nigh/agent/identity"
	"nigh/agent/trust"
)

// Host is the host of every URL between devices: "http://nigh/v1/…". The device
// is the one that the client was made for.
const Host = "nigh"

// Version is the version of the protocol in [Hello].
const Version = 1

// Hello is what a device says about itself. Only the ID is proved.
type Hello struct {
	Version int `json:"version"`
	// Name is safe to show, at most 64 characters, "" when it is not told.
	Name string            `json:"name,omitempty"`
	ID   identity.DeviceID `json:"id"`
	// Hidden is set when the device is not to be listed: it tells a stranger no place where it is.
	Hidden bool `json:"hidden,omitempty"`
}

type connKey struct{}
type peerKey struct{}

// PeerFrom returns who sent the request whose context is ctx. Every request that
// Config.Handler gets has a peer; PeerFrom panics for other contexts, because a
// request without one must never be served.
func PeerFrom(ctx context.Context) Peer { return ctx.Value(peerKey{}).(Peer) }

// WithPeer returns a context as requests of p have it, for tests of handlers.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

func (s *Sessions) newServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/hello", s.serveHello)
	mux.HandleFunc("POST /v1/dialback", s.serveDialBack)
	mux.HandleFunc("POST /v1/inbound", s.serveInbound)
	if s.cfg.Handler != nil {
		mux.Handle("/", s.cfg.Handler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      s.guard(mux),
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            readHeaderTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:                  func(net.Listener) context.Context { return s.life },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
}

func (s *Sessions) peerOf(c *conn) Peer {
	return Peer{ID: c.id, Standing: s.standing(c.id), Local: c.local, Remote: addrPort(c.RemoteAddr()), Ifname: c.path.Ifname}
}

// guard applies to every request what holds for all: who asks, how much, and that
// a panic ends this connection only.
func (s *Sessions) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok || !s.begin() {
			panic(http.ErrAbortHandler)
		}
		defer s.work.Done()
		peer := s.peerOf(c)
		if peer.Standing == trust.Blocked {
			panic(http.ErrAbortHandler)
		}
		defer func() {
			if v := recover(); v != nil {
				if err, _ := v.(error); !errors.Is(err, http.ErrAbortHandler) {
					s.log.Error("Panic in a handler", "peer", c.id.Short(), "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
				}
				panic(http.ErrAbortHandler) // net/http closes the connection
			}
		}()
		if p := s.known(c.id); p != nil {
			p.talk.heard(r.URL.Path)
		}
		if r.Host != Host {
			http.Error(w, "wrong host", http.StatusMisdirectedRequest)
			return
		}
		limit := int64(maxBody)
		var answered time.Time // no deadline: a film takes as long as it takes
		if peer.Standing != trust.Trusted {
			limit = maxStrangerBody
			if !s.granted(peer, r) && !s.affords(c, r) {
				// Large bodies are not read to get at what follows, and whoever does not stop is cut off:
				// a new handshake costs him more than us.
				if c.refused.Add(1) > maxRefused || r.ContentLength < 0 || r.ContentLength > maxHeader {
					w.Header().Set("Connection", "close")
				}
				http.Error(w, "too many requests", http.StatusTooManyRequests)
				return
			}
			answered = time.Now().Add(strangerAnswer)
		}
		_ = http.NewResponseController(w).SetWriteDeadline(answered)
		if !readBody(w, r, limit) {
			return
		}
		next.ServeHTTP(w, r.WithContext(WithPeer(r.Context(), peer)))
	})
}

// affords takes what a stranger's request costs from the budget of its connection, its
// address and all strangers.
func (s *Sessions) affords(c *conn, r *http.Request) bool {
	size := r.ContentLength
	if size < 0 || size > maxStrangerBody { // not told, or not read
		size = maxStrangerBody
	}
	from := origin(addrPort(c.RemoteAddr()).Addr())
	return c.requests.Allow() && s.gate.spend(from, size) && (s.cfg.Question == nil || !s.cfg.Question(r) || s.gate.ask(from))
}

func (s *Sessions) granted(p Peer, r *http.Request) bool {
	return s.cfg.Granted != nil && s.cfg.Granted(p, r)
}

// readBody reads the body of a request whole, in bounded time, so that handlers
// never wait for a peer in the middle of one. It reports whether to go on.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) bool {
	if r.ContentLength == 0 {
		return true
	}
	if r.ContentLength > limit {
		http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
		return false
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
		return false
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = rc.SetReadDeadline(time.Time{})
	r.Body = io.NopCloser(bytes.NewReader(body))
	return true
}

func (s *Sessions) serveHello(w http.ResponseWriter, r *http.Request) {
	peer := PeerFrom(r.Context())
	if s.cfg.Greeted != nil {
		s.cfg.Greeted(peer, readGreeting(r.Header.Get(greetingHeader)))
	}
	hello := Hello{Version: Version, ID: s.cfg.Identity.ID, Hidden: s.cfg.Hidden != nil && s.cfg.Hidden(peer)}
	if s.cfg.Name != nil {
		hello.Name = s.cfg.Name(peer)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(hello) // a lost peer is noticed on the connection
}

// serveDialBack opens a connection to the peer on which it can ask. Only a device
// that we hold may want that: otherwise anybody could make us dial.
func (s *Sessions) serveDialBack(w http.ResponseWriter, r *http.Request) {
	p := s.known(PeerFrom(r.Context()).ID)
	if p == nil || !p.isHeld() {
		http.Error(w, "not held", http.StatusForbidden)
		return
	}
	if !p.beginDialBack() {
		http.Error(w, "busy", http.StatusTooManyRequests)
		return
	}
	defer p.endDialBack()
	if _, err := p.openReverse(r.Context(), false); err != nil {
		s.log.Debug("Cannot dial back", "peer", p.id.Short(), "err", err)
		http.Error(w, "cannot dial back", http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
