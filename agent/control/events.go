package control

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// watch serves GET /v1/events, with ?log=true also the log. Lines are written as they come and flushed when no
// more are waiting. A reader that stops reading is cut after writeWait; until
// then the backend's own bound on the channel decides.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		s.refuse(w, &Error{Code: CodeBusy, Message: "too many programs watch this agent",
			Hint: "stop some of them"})
		return
	}
	defer s.watchers.Add(-1)
	events, cancel, err := s.backend.Watch(r.Context(), r.URL.Query().Get("log") == "true")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := &lineWriter{w: w, rc: http.NewResponseController(w), patience: s.patience}
	if err := s.relay(r.Context(), out, events); err != nil {
		s.log.Debug("Watcher went away", "error", err)
	}
}

// relay writes events to out until their channel closes or ctx ends. The last
// line is always an "end" event.
func (s *Server) relay(ctx context.Context, out *lineWriter, events <-chan Event) error {
	last := Event{}
	for {
		if len(events) == 0 {
			if err := out.flush(); err != nil {
				return err
			}
		}
		select {
		case e, ok := <-events:
			if !ok {
				if last.Type == "end" {
					return out.flush()
				}
				return out.end(last.Seq+1, "the agent closed the stream")
			}
			last = e
			if err := out.line(tidyEvent(e)); err != nil {
				return err
			}
		case <-ctx.Done():
			return out.end(last.Seq+1, "the agent stops")
		}
	}
}

// lineWriter writes one JSON value a line, each write with a deadline.
type lineWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController

	patience time.Duration // a write that takes longer fails
}

func (l *lineWriter) line(v any) error {
	body, err := json.Marshal(v)
	if err != nil { // no type here can fail to marshal
		panic(err)
	}
	if err := l.rc.SetWriteDeadline(time.Now().Add(l.patience)); err != nil {
		return err
	}
	_, err = l.w.Write(append(body, '\n'))
	return err
}

func (l *lineWriter) flush() error {
	if err := l.rc.SetWriteDeadline(time.Now().Add(l.patience)); err != nil {
		return err
	}
	return l.rc.Flush()
}

func (l *lineWriter) end(seq uint64, reason string) error {
	if err := l.line(Event{Seq: seq, Type: "end", Reason: reason}); err != nil {
		return err
	}
	return l.flush()
}

// The tidy functions make what a backend returns fit for JSON: lists are [] and
// never null, and a group's passphrase is kept to the one answer that may carry
// it (GET and POST /v1/groups). They copy what they change: the backend may share
// its slices.

func tidyEvent(e Event) Event {
	if e.State != nil {
		st := *e.State
		st.Status = tidyStatus(st.Status)
		st.Peers = tidyPeers(st.Peers)
		st.Transfers = orEmpty(st.Transfers)
		st.Inbox = orEmpty(st.Inbox)
		st.Messages = orEmpty(st.Messages)
		e.State = &st
	}
	if e.Status != nil {
		st := tidyStatus(*e.Status)
		e.Status = &st
	}
	if e.Peer != nil && e.Peer.Paths == nil {
		p := *e.Peer
		p.Paths = []Path{}
		e.Peer = &p
	}
	return e
}

func tidyStatus(st Status) Status {
	st.Groups = orEmpty(slices.Clone(st.Groups))
	for i := range st.Groups {
		st.Groups[i].Passphrase = ""
	}
	st.Links = orEmpty(slices.Clone(st.Links))
	for i := range st.Links {
		st.Links[i].Addresses = orEmpty(st.Links[i].Addresses)
	}
	return st
}

func tidyPeers(peers []Peer) []Peer {
	peers = orEmpty(slices.Clone(peers))
	for i := range peers {
		peers[i].Paths = orEmpty(peers[i].Paths)
	}
	return peers
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
