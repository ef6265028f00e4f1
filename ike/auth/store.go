// Package auth holds the credentials: it finds the secret for a pair of identities, and makes and checks AUTH data with it. Nothing else sees a
// private key or a pre-shared key.
package auth

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/ident"
)

// What Do's errors wrap.
var (
	// ErrNoSecret says that no record of ipsec.secrets fits the identities.
	ErrNoSecret = errors.New("no pre-shared key")
	// ErrNotAuthentic says that the peer's AUTH data does not verify.
	ErrNotAuthentic = errors.New("the AUTH data does not verify")
	// ErrMethod says that the authentication method is not implemented.
	ErrMethod = errors.New("authentication method not implemented")
)

// Store finds credentials. Immutable once made; safe for concurrent use. It never prints its secrets.
type Store struct {
	secrets []Secret
	// Records by number, which is also their order of preference. Identities are in canonical form.
	naming  map[ident.ID][]int // all records that name the identity
	withAny map[ident.ID]int   // the first that names it and %any
	alone   map[ident.ID]int   // the first that names it and nothing else
	any     int                // the first that names %any, or none
	empty   int                // the first without identities, or none
}

// none is the number of no record.
const none = -1

// NewStore makes a store of the records in file order. It copies the list, not the keys.
func NewStore(secrets []Secret) *Store {
	s := &Store{
		secrets: append([]Secret(nil), secrets...),
		naming:  map[ident.ID][]int{},
		withAny: map[ident.ID]int{},
		alone:   map[ident.ID]int{},
		any:     none,
		empty:   none,
	}
	for n := range s.secrets {
		s.index(n)
	}
	return s
}

// index enters record n.
func (s *Store) index(n int) {
	ids := s.secrets[n].IDs
	if len(ids) == 0 {
		first(&s.empty, n)
		return
	}
	hasAny := false
	for _, p := range ids {
		hasAny = hasAny || p.Any
	}
	if hasAny {
		first(&s.any, n)
	}
	for _, p := range ids {
		if p.Any {
			continue
		}
		id := p.ID.Canonical()
		if list := s.naming[id]; len(list) == 0 || list[len(list)-1] != n {
			s.naming[id] = append(list, n)
		}
		if hasAny {
			firstOf(s.withAny, id, n)
		}
		if len(ids) == 1 {
			firstOf(s.alone, id, n)
		}
	}
}

func first(into *int, n int) {
	if *into == none {
		*into = n
	}
}

func firstOf(m map[ident.ID]int, id ident.ID, n int) {
	if _, ok := m[id]; !ok {
		m[id] = n
	}
}

// String hides the secrets.
func (*Store) String() string { return hidden }

// Format hides the secrets whatever the verb.
func (*Store) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// Do performs a Sign or Verify job. For Sign it returns the AUTH data, for Verify nothing. Errors name the identities, never the secret.
func (s *Store) Do(job machine.Job) ([]byte, error) {
	switch {
	case job.Sign != nil:
		return s.sign(job.Sign)
	case job.Verify != nil:
		return nil, s.verify(job.Verify)
	}
	return nil, errors.New("the job is neither to sign nor to verify")
}

// find chooses the record for two identities by libreswan's score: the local identity counts 8, the remote one 4, %any 2, a record without
// identities 1. These combinations are a match, best first, and of equal ones the earliest in the file:
//
//	local and remote; local and %any; local alone in the record; remote and %any; %any; no identities.
//
// A record that names the remote identity alone, or the local one with a third, is none. An unknown remote identity (the initiator does not ask
// for one) is the zero ID.
func (s *Store) find(local, remote ident.ID) (*Secret, bool) {
	found := s.matches(local, remote)
	if len(found) == 0 {
		return nil, false
	}
	return &s.secrets[found[0].record], true
}

// match is a record that fits two identities, and why.
type match struct {
	record int
	why    string
}

// matches lists the records that fit, best first; of those that fit in the same way the earliest in the file alone.
func (s *Store) matches(local, remote ident.ID) []match {
	local, remote = local.Canonical(), remote.Canonical()
	var out []match
	for _, m := range []match{
		{s.both(local, remote), "names both"},
		{lookup(s.withAny, local), "names us and %any"},
		{lookup(s.alone, local), "names us alone"},
		{lookup(s.withAny, remote), "names the peer and %any"},
		{s.any, "has %any"},
		{s.empty, "is for everybody"},
	} {
		if m.record != none && !slices.ContainsFunc(out, func(o match) bool { return o.record == m.record }) {
			out = append(out, m)
		}
	}
	return out
}

// Choice is the record of ipsec.secrets that serves a pair of identities, without the secret.
type Choice struct {
	Position string   // file:line; empty: none fits
	Why      string   // in which way it fits
	Others   []string // other records that fit as well, but not as well: "file:line (why)"
	Lacking  string   // when none fits: what is missing and the line to write
}

// Choose tells which record a connection with these identities uses, and why. An identity that is not known is the zero ID.
func (s *Store) Choose(local, remote ident.ID) Choice {
	found := s.matches(local, remote)
	if len(found) == 0 {
		return Choice{Lacking: s.lacking(local, remote)}
	}
	best := s.secrets[found[0].record]
	return Choice{Position: best.Position, Why: found[0].why, Others: s.others(found)}
}

// others describes the records after the best.
func (s *Store) others(found []match) (list []string) {
	for _, m := range found[1:] {
		list = append(list, fmt.Sprintf("%s (%s)", s.secrets[m.record].Position, m.why))
	}
	return list
}

func lookup(m map[ident.ID]int, id ident.ID) int {
	if n, ok := m[id]; ok && !id.IsZero() {
		return n
	}
	return none
}

// both is the first record that names both identities. It walks the shorter of the two lists: a gateway names itself in every record.
func (s *Store) both(local, remote ident.ID) int {
	if local.IsZero() || remote.IsZero() {
		return none
	}
	list, other := s.naming[local], remote
	if l := s.naming[remote]; len(l) < len(list) {
		list, other = l, local
	}
	for _, n := range list {
		for _, p := range s.secrets[n].IDs {
			if !p.Any && p.ID.Same(other) {
				return n
			}
		}
	}
	return none
}
