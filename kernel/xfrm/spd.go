package xfrm

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// spd is the kernel's policies as far as they are ours. The kernel has one policy for each selector, direction, mark and interface; two connections may want
// the same. So each place in the kernel has its claims, of which the strongest is there; what an earlier daemon has left is the weakest, until sweep. The worker's.
type spd struct {
	conn   *conn
	share  *share
	places map[place]*occupied
	owned  map[kernel.PolicyID][]wish
	// six is how many of owned are IPv6: as long as there are any, neighbour discovery is let through.
	six int
	// leftReqids are those of templates that an earlier daemon has left.
	leftReqids map[uint32]bool
	swept      bool
}

// place is what the kernel tells policies apart by.
type place struct {
	selector  message.Selector
	direction message.Direction
	mark      message.Mark
	ifID      uint32
}

func placeOf(p *message.Policy) place { return place{p.Selector, p.Direction, p.Mark, p.IfID} }

// occupied is a place with claims. kernel is what is there; nil: nothing. left is what an earlier daemon had there; nil: nothing, or swept.
type occupied struct {
	claims       []claim
	kernel, left *wish
}

// strongest is the policy that is to be there; nil: none.
func (at *occupied) strongest() *wish {
	if len(at.claims) > 0 {
		return &at.claims[0].policy
	}
	return at.left
}

// wish is a policy that is to be there.
type wish struct {
	message.Policy

	// larval: there is no SA yet that its template fits. The kernel keeps the packets that wait for one, and looks at them, and at what programs have looked up,
	// when the policy is put anew: so that happens when the SA has come, even where the template is the same.
	larval bool

	// led: packets that the policy lets pass do not leave, they are routed to the other half of a split datapath, and so are those that wait at it: not so those which
	// another policy in its place has left there.
	led bool
}

// mayKeep reports whether packets may wait at the policy. One that passes in its place would send them on their way, unlike one that has been removed before.
func (p *wish) mayKeep() bool { return p.Direction == message.Out && p.Template != nil }

// passes reports whether the policy lets its packets go in clear.
func (p *wish) passes() bool { return p.Action != message.Block && p.Template == nil }

type claim struct {
	owner  kernel.PolicyID
	policy wish
}

func newSPD(c *conn, s *share) *spd {
	return &spd{conn: c, share: s, places: map[place]*occupied{}, owned: map[kernel.PolicyID][]wish{}, leftReqids: map[uint32]bool{}}
}

// adopt takes what an earlier daemon has left as places that nobody of this one claims.
func (s *spd) adopt(left []*message.Policy) {
	for _, p := range left {
		s.share.reserve(p)
		if p.Template != nil {
			s.leftReqids[p.Template.Reqid] = true
		}
		s.places[placeOf(p)] = &occupied{kernel: &wish{Policy: *p}, left: &wish{Policy: *p}}
	}
}

func (s *spd) hasLeft() bool {
	for _, at := range s.places {
		if at.left != nil {
			return true
		}
	}
	return false
}

// sweep removes what an earlier daemon has left where nobody has a claim. It returns how many of its policies have been replaced, and how many it has removed.
func (s *spd) sweep() (replaced, removed int, err error) {
	s.swept = true
	var errs []error
	for pl, at := range s.places {
		left := at.left
		if left == nil {
			continue
		}
		at.left = nil
		if len(at.claims) > 0 {
			replaced++
			continue
		}
		if err := s.sync(pl, at); err != nil {
			at.left = left
			errs = append(errs, err)
			continue
		}
		removed++
	}
	if len(errs) == 0 {
		for n := range s.leftReqids {
			s.share.freeReqid(n)
		}
		clear(s.leftReqids)
	}
	return replaced, removed, errors.Join(errs...)
}

// put makes the policies of an owner those that it wants: none takes all away. What is new is there before what is old goes. With an error nothing has changed.
func (s *spd) put(owner kernel.PolicyID, want []wish) error {
	old := s.owned[owner]
	if err := s.neighbours(count6(want) - count6(old)); err != nil {
		return err
	}
	err := s.change(owner, old, want)
	if err != nil {
		err = errors.Join(err, s.change(owner, want, old), s.neighbours(count6(old)-count6(want)))
		return err
	}
	if s.owned[owner] = want; len(want) == 0 {
		delete(s.owned, owner)
	}
	return nil
}

func count6(all []wish) (n int) {
	for i := range all {
		if all[i].Selector.Dst.Addr().Is6() {
			n++
		}
	}
	return n
}

func (s *spd) change(owner kernel.PolicyID, old, want []wish) error {
	stays := make(map[place]bool, len(want))
	for i := range want {
		pl := placeOf(&want[i].Policy)
		stays[pl] = true
		at := s.places[pl]
		if at == nil {
			at = &occupied{}
			s.places[pl] = at
		}
		at.claims = slices.DeleteFunc(at.claims, func(c claim) bool { return c.owner == owner })
		at.claims = append(at.claims, claim{owner, want[i]})
		// The strongest first. Of equals one with SAs, then the older.
		slices.SortStableFunc(at.claims, func(a, b claim) int {
			return cmp.Or(cmp.Compare(a.policy.Priority, b.policy.Priority), cmp.Compare(rank(&a.policy), rank(&b.policy)))
		})
		if err := s.sync(pl, at); err != nil {
			return err
		}
	}
	for i := range old {
		pl := placeOf(&old[i].Policy)
		at := s.places[pl]
		if at == nil || stays[pl] {
			continue
		}
		at.claims = slices.DeleteFunc(at.claims, func(c claim) bool { return c.owner == owner })
		if err := s.sync(pl, at); err != nil {
			return err
		}
	}
	return nil
}

// rank orders policies of equal priority: those with SAs, those whose packets wait for one, others.
func rank(p *wish) int {
	switch {
	case p.Template != nil && !p.larval:
		return 0
	case p.Template != nil:
		return 1
	}
	return 2
}

// sync makes the kernel's policy at a place that of the strongest claim.
func (s *spd) sync(pl place, at *occupied) error {
	strongest := at.strongest()
	if strongest == nil {
		err := s.remove(at)
		if err == nil {
			delete(s.places, pl)
		}
		return err
	}
	if at.kernel != nil && samePolicy(at.kernel, strongest) {
		return nil
	}
	// Blocking in place first would leave no moment for wider policies, but what has waited goes on to the next policy, and one that blocks drops it only when the kernel's
	// clock comes round, which may be after one that passes has taken its place.
	if at.kernel != nil && at.kernel.mayKeep() && strongest.passes() && !(at.kernel.led && strongest.led) {
		if err := s.remove(at); err != nil {
			return err
		}
	}
	if err := s.forgetLost(pl, at); err != nil {
		return err
	}
	want := *strongest
	kind := message.UPDPOLICY // in place: no packet finds it missing
	if at.kernel == nil {
		kind = message.NEWPOLICY // refuses to replace somebody else's
		want.Index = s.share.index(want.Direction)
	} else {
		want.Index = at.kernel.Index
		want.led = want.led && (at.kernel.led || !at.kernel.mayKeep())
	}
	if err := s.conn.do(kind, &message.NewPolicy{Policy: want.Policy}); err != nil {
		if at.kernel == nil {
			s.share.freeIndex(want.Index)
		}
		if errors.Is(err, unix.EEXIST) {
			if at.kernel == nil && s.takeOver(pl, at) {
				return s.sync(pl, at)
			}
			return s.foreign(pl)
		}
		return refused(fmt.Sprintf("policy %s to %s (%s)", want.Selector.Src, want.Selector.Dst, want.Direction), err)
	}
	at.kernel = &want
	return nil
}

// takeOver finds out whether what stands in the way has been left by an earlier daemon, although it was not known to be in this place.
func (s *spd) takeOver(pl place, at *occupied) bool {
	p, err := s.there(pl)
	if err != nil || p == nil || !s.share.ours(p) {
		return false
	}
	for otherPlace, other := range s.places {
		if other.kernel == nil || other.kernel.Index != p.Index {
			continue
		}
		if other.left == nil || len(other.claims) > 0 {
			return false // another policy of this daemon is the same for the kernel
		}
		delete(s.places, otherPlace)
		break
	}
	s.share.reserve(p)
	if at.kernel = (&wish{Policy: *p}); !s.swept {
		at.left = at.kernel
	}
	return true
}

// forgetLost finds out whether somebody has removed what should be at a place, as `ip xfrm policy flush` does: what is there by now is not ours to replace. With an
// error nothing has been found out, and what should be there still counts as there.
func (s *spd) forgetLost(pl place, at *occupied) error {
	if at.kernel == nil {
		return nil
	}
	p, err := s.there(pl)
	if err != nil {
		return refused(fmt.Sprintf("read policy %s to %s (%s)", pl.selector.Src, pl.selector.Dst, pl.direction), err)
	}
	if p == nil || p.Index != at.kernel.Index {
		s.share.freeIndex(at.kernel.Index)
		at.kernel = nil
	}
	return nil
}

// there is the kernel's policy at a place, whoever has put it there; nil: none.
func (s *spd) there(pl place) (*message.Policy, error) {
	id := message.PolicyID{Selector: pl.selector, Direction: pl.direction, Mark: pl.mark, IfID: pl.ifID}
	b, err := s.conn.get(message.GETPOLICY, &message.GetPolicy{ID: id})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return message.ParsePolicy(b)
}

func (s *spd) remove(at *occupied) error {
	p := at.kernel
	if p == nil {
		return nil
	}
	id := message.PolicyID{Index: p.Index, Direction: p.Direction, Mark: p.Mark, IfID: p.IfID} // by its selector it could be somebody else's by now
	if err := s.conn.do(message.DELPOLICY, &message.DelPolicy{ID: id}); err != nil && !errors.Is(err, unix.ENOENT) {
		return refused(fmt.Sprintf("remove policy %s to %s (%s)", p.Selector.Src, p.Selector.Dst, p.Direction), err)
	}
	s.share.freeIndex(p.Index)
	at.kernel = nil
	return nil
}

// samePolicy compares what the kernel is told, but for the index.
func samePolicy(a, b *wish) bool {
	same := a.larval == b.larval && a.Action == b.Action && a.Priority == b.Priority && (a.Template == nil) == (b.Template == nil)
	return same && (a.Template == nil || *a.Template == *b.Template)
}

// foreign names the policy of somebody else that is where one of ours should be.
func (s *spd) foreign(pl place) error {
	what := fmt.Sprintf("policy %s to %s (%s)", pl.selector.Src, pl.selector.Dst, pl.direction)
	theirs := ""
	if p, _ := s.there(pl); p != nil {
		theirs = fmt.Sprintf(" (priority %d", p.Priority)
		if p.Template != nil {
			theirs += fmt.Sprintf(", reqid %d", p.Template.Reqid)
		}
		theirs += ")"
	}
	return refused(what, fmt.Errorf("somebody else has a policy%s for the same traffic in the kernel: %w", theirs, unix.EEXIST))
}

// close takes all away, and puts back what an earlier daemon has left if that is to stay.
func (s *spd) close(keepLeft bool) error {
	var errs []error
	for pl, at := range s.places {
		at.claims = nil
		if !keepLeft {
			at.left = nil
		}
		errs = append(errs, s.sync(pl, at))
	}
	clear(s.places)
	clear(s.owned)
	s.six = 0
	return errors.Join(errs...)
}
