package xfrm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ikegod/ikegod/kernel"
	"github.com/ikegod/ikegod/kernel/xfrm/message"
)

// Others remove what is ours: ip xfrm policy flush, another IKE daemon that starts. The kernel tells of it at once. Policies are put back, and of SAs, whose keys are
// gone, IKE is told, which makes others.

// policyRemoved puts a policy back that somebody has removed. One of somebody else whose place we wanted leaves it to us.
func (w *worker) policyRemoved(p *message.Policy) {
	if pl, ok := w.spd.find(p); ok {
		w.restore([]place{pl})
	}
}

// find is where a policy of the kernel has its place here.
func (s *spd) find(p *message.Policy) (place, bool) {
	if pl := placeOf(p); s.places[pl] != nil {
		return pl, true
	}
	if s.share.hasIndex(p.Index) { // what the kernel says of it is not word for word what it was told
		for pl, at := range s.places {
			if at.kernel != nil && at.kernel.Index == p.Index {
				return pl, true
			}
		}
	}
	return place{}, false
}

// lookAtPolicies puts back what is missing.
func (w *worker) lookAtPolicies() {
	all, err := policiesInKernel(w.d.conn)
	if err != nil {
		w.d.cfg.Notice("whether the policies in the kernel are all there could not be found out: " + err.Error())
		return
	}
	there := make(map[uint32]bool, len(all))
	for _, p := range all {
		there[p.Index] = true
	}
	var missing []place
	for pl, at := range w.spd.places {
		if at.kernel == nil || !there[at.kernel.Index] {
			missing = append(missing, pl)
		}
	}
	w.restore(missing)
}

// restoreAgain is when it is tried again where the kernel has refused a policy that was to be put back.
const restoreAgain = time.Second

func (w *worker) restore(list []place) {
	put, again, err := w.spd.restore(list)
	if len(put) > 0 {
		w.restored.say(w.d.cfg.Notice, fmt.Sprintf("somebody has removed policies of ikegod from the kernel (ip xfrm policy flush, or another IKE daemon?): those of %s; they were put back "+
			"at once, but what was sent in between may have gone in clear", names(put)))
	}
	if err != nil {
		w.unrestored.say(w.d.cfg.Notice, "somebody has removed policies of ikegod from the kernel, and these could not be put back: "+err.Error())
	}
	if again && !w.restoring {
		w.restoring = true
		time.AfterFunc(restoreAgain, w.restoreLater)
	}
}

// restoreLater looks again, once for all that could not be put back. It may be called anywhere.
func (w *worker) restoreLater() {
	look := func() {
		w.restoring = false
		w.lookAtPolicies()
	}
	if !w.d.requests.tell(look) { // no room: the kernel has a lot to tell
		time.AfterFunc(restoreAgain, w.restoreLater)
	}
}

// restore puts back what is missing at these places, what protects first. Where there is a policy of somebody else it stays. It returns whose policies were gone and are
// back, and whether it is worth a try later.
func (s *spd) restore(list []place) (put []kernel.PolicyID, again bool, err error) {
	passes := func(pl place) int {
		if p := s.places[pl].strongest(); p != nil && p.passes() {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b place) int { return passes(a) - passes(b) })
	var errs []error
	for _, pl := range list {
		at := s.places[pl]
		had := at.kernel != nil
		err := s.forgetLost(pl, at)
		strongest := at.strongest()
		if err == nil && (at.kernel != nil || strongest == nil) {
			continue
		}
		owner := kernel.PolicyID("an earlier daemon")
		if len(at.claims) > 0 {
			owner = at.claims[0].owner
		}
		if err == nil {
			err = s.sync(pl, at)
		}
		switch {
		case err == nil && had:
			put = append(put, owner)
		case err == nil: // its place was somebody else's
		case errors.Is(err, unix.EEXIST) && owner == discoveryOwner: // theirs serves us as well
		default:
			again = again || !errors.Is(err, unix.EEXIST)
			errs = append(errs, fmt.Errorf("%s: %w", owner, err))
		}
	}
	return put, again, errors.Join(errs...)
}

// saRemoved tells of a pair of which somebody has removed an SA.
func (w *worker) saRemoved(id message.SAID) {
	p := w.pairOf(id.Dst, id.SPI)
	if p == nil {
		return
	}
	ours := p.in
	if p.out.Dst == id.Dst && p.out.SPI == id.SPI {
		ours = p.out
	}
	if _, err := w.read(ours); errors.Is(err, unix.ESRCH) {
		w.gone([]*pair{p})
	}
}

// gone tells of pairs of which others have removed an SA.
func (w *worker) gone(pairs []*pair) {
	pairs = slices.DeleteFunc(pairs, func(p *pair) bool { return p.hard })
	if len(pairs) == 0 {
		return
	}
	var of []kernel.PolicyID
	for _, p := range pairs {
		of = append(of, p.route.policy.ID)
		w.hardExpire(p)
	}
	w.stripped.say(w.d.cfg.Notice, fmt.Sprintf("somebody has removed SAs of ikegod from the kernel (ip xfrm state flush, or another IKE daemon?): those of %s; these Child SAs are closed, and made "+
		"anew where a connection must remain up", names(of)))
}

// mostNames is how many connections a sentence names.
const mostNames = 5

func names(of []kernel.PolicyID) string {
	slices.Sort(of)
	of = slices.Compact(of)
	var text []string
	for _, id := range of[:min(len(of), mostNames)] {
		text = append(text, fmt.Sprintf("%q", id))
	}
	if more := len(of) - mostNames; more > 0 {
		text = append(text, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(text, ", ")
}

// seldom says a thing at most once in tellLost, and how often it was left out.
type seldom struct {
	at     time.Time
	unsaid int
}

func (s *seldom) say(notice func(string), text string) {
	now := time.Now()
	if !s.at.IsZero() && now.Sub(s.at) < tellLost {
		s.unsaid++
		return
	}
	if s.unsaid > 0 {
		text += fmt.Sprintf(" (the like %d times since it was last said)", s.unsaid)
	}
	*s = seldom{at: now}
	notice(text)
}
