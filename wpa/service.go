package wpa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"nigh/wpa/dbusapi"
)

const (
	maxServices = 16 // of ours
	maxQueries  = 16 // open at the same time
)

// ServiceQuery asks for services before there is a group.
type ServiceQuery struct {
	Peer     net.HardwareAddr // nil = every device that is found
	Type     string           // such as _nigh._tcp; empty = everything that the device advertises
	Instance string           // empty = which instances there are (PTR), else the TXT record of one
}

func (q ServiceQuery) check() error {
	if len(q.Peer) != 0 && len(q.Peer) != 6 || q.Type == "" && q.Instance != "" {
		return fmt.Errorf("%w: not a usable query", ErrConfig)
	}
	if q.Type == "" {
		return nil
	}
	s := Service{Type: q.Type, Instance: q.Instance}
	if s.Instance == "" {
		s.Instance = "any"
	}
	return s.check()
}

// QueryID names a query of one Radio until it is cancelled. It may be used again after.
type QueryID byte

// query is a query that is wanted. It survives a restart of the supplicant.
type query struct {
	ServiceQuery
	request uint64 // the supplicant's number for it; 0 = it does not have it
}

// services is what is advertised and asked for before there are groups. The supplicant does the first always, and the second in
// the course of a search.
type services struct {
	own     []Service
	queries map[QueryID]*query
	last    QueryID
}

// SetServices replaces what this device advertises to others before there is a group (service discovery, Wi-Fi P2P specification
// 3.1.3), at most 16 services. It returns when the supplicant has them, or at once when there is none; they survive a restart of
// it. Devices are told only when they ask, which costs them time: what all shall know belongs into Config.Vendor.
func (r *Radio) SetServices(ctx context.Context, list []Service) error {
	if len(list) > maxServices {
		return fmt.Errorf("wpa: set services: %w: more than %d services", ErrConfig, maxServices)
	}
	for _, s := range list {
		if err := s.check(); err != nil {
			return fmt.Errorf("wpa: set services: %w", err)
		}
	}
	list = slices.Clone(list)
	return r.command(ctx, "set services", func(m *machine, reply func(error)) { m.setServices(list, reply) })
}

// DiscoverServices asks for services: a peer once, or every device that is found until CancelServices. It returns when the query
// is on its way; answers come as ServicesFound. Queries are sent in the course of a search, so Find has to be called too; at most
// 16 are open, ErrBusy. ErrPeerGone says that the peer is not near.
func (r *Radio) DiscoverServices(ctx context.Context, q ServiceQuery) (QueryID, error) {
	if err := q.check(); err != nil {
		return 0, fmt.Errorf("wpa: discover services: %w", err)
	}
	ids := make(chan QueryID, 1)
	err := r.command(ctx, "discover services", func(m *machine, reply func(error)) {
		m.discoverServices(q, func(id QueryID) { ids <- id }, reply)
	})
	if err == nil {
		return <-ids, nil
	}
	r.in.command(func(m *machine) {
		select {
		case id := <-ids: // the caller does not learn of it
			m.cancelServices(id, func(error) {})
		default:
		}
	})
	return 0, err
}

// CancelServices ends a query: no event of it follows.
func (r *Radio) CancelServices(ctx context.Context, id QueryID) error {
	return r.command(ctx, "cancel services", func(m *machine, reply func(error)) { m.cancelServices(id, reply) })
}

func (m *machine) setServices(list []Service, reply func(error)) {
	old := m.services.own
	m.services.own = list
	if m.state != Ready && m.state != Off {
		reply(nil)
		return
	}
	m.advertise(old, reply)
}

// advertise puts our services in the place of old ones.
func (m *machine) advertise(old []Service, reply func(error)) {
	owner, list := m.owner, m.services.own
	m.order(func(ctx context.Context) error {
		ignore(withdraw(ctx, m.api, owner, old))
		// Those of a run that crashed would be answered with, too.
		ignore(withdraw(ctx, m.api, owner, list))
		for _, s := range list {
			for _, e := range s.entries() {
				if err := m.api.AddService(ctx, owner, e.key, e.data); err != nil {
					return err
				}
			}
		}
		return m.api.ServiceUpdate(ctx, owner)
	}, func(err error) { reply(callErr(err)) })
}

// withdraw takes services back.
func withdraw(ctx context.Context, api supplicant, owner dbusapi.Path, list []Service) error {
	var errs []error
	for _, s := range list {
		for _, e := range s.entries() {
			errs = append(errs, api.DeleteService(ctx, owner, e.key))
		}
	}
	return errors.Join(errs...)
}

func (m *machine) discoverServices(q ServiceQuery, made func(QueryID), reply func(error)) {
	if err := m.usable(); err != nil {
		reply(err)
		return
	}
	id, ok := m.services.free()
	if !ok {
		reply(fmt.Errorf("%w: %d queries are open", ErrBusy, maxQueries))
		return
	}
	m.services.queries[id] = &query{ServiceQuery: q}
	made(id)
	m.request(id, reply)
}

// free returns a number that no open query has, as long after its last use as can be: answers to the last one may be on their way.
func (s *services) free() (QueryID, bool) {
	if len(s.queries) >= maxQueries {
		return 0, false
	}
	for {
		s.last++
		if s.last != 0 && s.queries[s.last] == nil { // 0 is no transaction
			return s.last, true
		}
	}
}

// request gives one query to the supplicant.
func (m *machine) request(id QueryID, reply func(error)) {
	q := m.services.queries[id]
	owner, peer := m.owner, dbusapi.Path("")
	if q.Peer != nil {
		peer = dbusapi.PeerPath(m.owner, q.Peer)
	}
	tlv := serviceRequest(q.ServiceQuery, byte(id))
	do(m, func(ctx context.Context) (uint64, error) { return m.api.RequestServices(ctx, owner, peer, tlv) }, func(request uint64, err error) {
		switch {
		case errors.Is(err, dbusapi.ErrInvalidArgs):
			err = fmt.Errorf("%w: %w", ErrPeerGone, err)
		case err == nil && m.services.queries[id] != q: // cancelled meanwhile
			m.unask(request, func(error) {})
		case err == nil:
			q.request = request
		}
		reply(callErr(err))
	})
}

func (m *machine) unask(request uint64, reply func(error)) {
	owner := m.owner
	m.order(func(ctx context.Context) error { return m.api.CancelServices(ctx, owner, request) }, func(err error) {
		if errors.Is(err, dbusapi.ErrInvalidArgs) { // it was answered, and that was all
			err = nil
		}
		reply(callErr(err))
	})
}

func (m *machine) cancelServices(id QueryID, reply func(error)) {
	q := m.services.queries[id]
	delete(m.services.queries, id)
	if q == nil || q.request == 0 || m.state != Ready && m.state != Off {
		reply(nil)
		return
	}
	m.unask(q.request, reply)
}

// restoreServices gives a new supplicant what is wanted. A device is not known to it before it is found again.
func (m *machine) restoreServices() {
	if len(m.services.own) > 0 {
		m.advertise(nil, func(err error) {
			if err != nil {
				m.log.Warn("Advertising services failed", "err", err)
			}
		})
	}
	m.restoreQueries()
}

// restoreQueries asks again after the supplicant forgot what it was to ask.
func (m *machine) restoreQueries() {
	for id, q := range m.services.queries {
		q.request = 0
		if q.Peer == nil {
			m.request(id, func(error) {})
		}
	}
}

// askAgain gives the queries for a peer to a supplicant that has just found it.
func (m *machine) askAgain(peer net.HardwareAddr) {
	for id, q := range m.services.queries {
		if q.request == 0 && q.Peer != nil && slices.Equal(q.Peer, peer) {
			m.request(id, func(error) {})
		}
	}
}

// serviceResponse tells of what a peer answered. Answers to what is not asked any more are dropped.
func (m *machine) serviceResponse(s dbusapi.ServiceResponse) {
	peer := dbusapi.PeerAddress(s.Peer)
	answers, err := serviceAnswers(s.TLVs)
	if err != nil {
		m.log.Info("A service discovery response was dropped, or its rest", "peer", peer.String(), "err", err)
	}
	found := map[QueryID][]ServiceRecord{}
	for _, a := range answers {
		id := QueryID(a.id)
		q := m.services.queries[id]
		if peer == nil || q == nil || q.Peer != nil && !slices.Equal(q.Peer, peer) {
			continue
		}
		found[id] = append(found[id], a.records()...)
	}
	for id, records := range found {
		m.emit(ServicesFound{Peer: peer, Query: id, Records: records})
	}
}

func (a serviceAnswer) records() []ServiceRecord {
	if a.status != 0 {
		return nil
	}
	return []ServiceRecord{a.record}
}

// withdrawServices takes back what is advertised and asked for, at the end.
func (m *machine) withdrawServices() func(context.Context) {
	owner, list := m.owner, m.services.own
	var requests []uint64
	for _, q := range m.services.queries {
		if q.request != 0 {
			requests = append(requests, q.request)
		}
	}
	return func(ctx context.Context) {
		ignore(withdraw(ctx, m.api, owner, list))
		for _, r := range requests {
			ignore(m.api.CancelServices(ctx, owner, r))
		}
	}
}
