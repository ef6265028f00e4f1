package engine

import (
	"errors"
	"sync"

	"github.com/ikegod/ikegod/ike/auth"
	"github.com/ikegod/ikegod/ike/machine"
	"github.com/ikegod/ikegod/pkg/suite"
)

// startJob runs a fast job at once and gives a slow one to a worker. Jobs of one machine complete in the order in which it asked for them.
func (s *shard) startJob(a *sa, j machine.Job) {
	switch {
	case a.working:
		a.jobs = append(a.jobs, j)
	case slow(j):
		s.toWorker(a, j)
	default:
		s.step(a, do(s.e.secrets.Load(), j))
	}
}

func (s *shard) toWorker(a *sa, j machine.Job) {
	a.working = true
	secrets := s.e.secrets.Load()
	s.e.workers.submit(func() {
		if a.forgotten.Load() {
			return
		}
		done := guardedDo(secrets, j)
		s.box.post(func() { s.jobDone(a, done) })
	})
}

func (s *shard) jobDone(a *sa, done machine.JobDone) {
	a.working = false
	s.step(a, done)
	for len(a.jobs) > 0 && !a.working {
		j := a.jobs[0]
		a.jobs = a.jobs[1:]
		s.startJob(a, j)
	}
	if len(a.jobs) == 0 {
		a.jobs = nil
	}
}

// slow reports whether a job takes more than about a millisecond.
func slow(j machine.Job) bool {
	switch {
	case j.Answer != nil:
		return suite.Slow(j.Answer.Method)
	case j.Finish != nil:
		return suite.Slow(j.Finish.Exchange.Method)
	case j.Pending != nil:
		return suite.Slow(j.Pending.Method)
	}
	return false // a MAC with a pre-shared key
}

// do performs a job.
func do(secrets *auth.Store, j machine.Job) machine.JobDone {
	done := machine.JobDone{ID: j.ID}
	switch {
	case j.Answer != nil:
		done.Data, done.Pending, done.Err = j.Answer.Do()
	case j.Finish != nil:
		done.Data, done.Err = j.Finish.Exchange.Finish(j.Finish.Reply)
	case j.Pending != nil:
		done.Data, done.Err = j.Pending.Secret()
	default:
		done.Data, done.Err = secrets.Do(j)
	}
	return done
}

var errJobPanic = errors.New("internal error while computing; please report it")

// guardedDo is do for a worker's goroutine: a panic becomes the job's error.
func guardedDo(secrets *auth.Store, j machine.Job) (done machine.JobDone) {
	defer func() {
		if recover() != nil {
			done = machine.JobDone{ID: j.ID, Err: errJobPanic}
		}
	}()
	return do(secrets, j)
}

// workers compute what would hold up a shard. The queue needs no bound of its own: each IKE SA has at most one job in it.
type workers struct {
	mu     sync.Mutex
	wake   *sync.Cond
	queue  []func()
	closed bool
}

func (w *workers) init() { w.wake = sync.NewCond(&w.mu) }

func (w *workers) submit(job func()) {
	w.mu.Lock()
	w.queue = append(w.queue, job)
	w.mu.Unlock()
	w.wake.Signal()
}

// maxBacklog jobs waiting are more than honest peers cause: seconds of work.
const maxBacklog = 64

// busy reports whether so much waits that strangers have to prove their addresses first.
func (w *workers) busy() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue) >= maxBacklog
}

// run works until close.
func (w *workers) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.queue) == 0 && !w.closed {
			w.wake.Wait()
		}
		if w.closed {
			return
		}
		job := w.queue[0]
		w.queue[0] = nil
		w.queue = w.queue[1:]
		w.mu.Unlock()
		job()
		w.mu.Lock()
	}
}

func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.wake.Broadcast()
}
