"""`memorise` in Triton: a program trains one model after the other, whose weights stay in the caller's tensors.

The maths is that of the C++ kernels: no (R, C, H) tensor, the readout's gradient from W's, sub-gradient 0 on the kink.
Products of matrices are sums of outer products, so that only the masked sums are reductions. What one pass makes and
the next reads otherwise goes through a scratch of 2 (R + C) H numbers a program, with a barrier between.
"""

import triton
import triton.language as tl

POWERS = tl.constexpr(28)


@triton.jit
def _log_of_one_plus(x):
    """ln(1 + x) for x in [0, 1]: 2 atanh(x / (2 + x)) as a series, which keeps the precision of small x."""
    w = x / (x + 2.0)
    square = w * w
    p = square / 13.0 + 1.0 / 11
    p = p * square + 1.0 / 9
    p = p * square + 1.0 / 7
    p = p * square + 1.0 / 5
    p = p * square + 1.0 / 3
    p = p * square + 1.0
    return 2.0 * w * p


@triton.jit
def _update(place, mask, weights, firsts, seconds, gradient, rate, adam):
    """Adam on numbers in memory, with a barrier between all reads and the first write."""
    decay, inverse_root, beta1, beta2, rest1, rest2, eps = adam
    weight = tl.load(weights + place, mask=mask, other=0.0)
    first = tl.load(firsts + place, mask=mask, other=0.0)
    second = tl.load(seconds + place, mask=mask, other=0.0)
    tl.debug_barrier()
    first = beta1 * first + rest1 * gradient
    second = beta2 * second + rest2 * gradient * gradient
    weight = weight * decay - rate * first / (tl.sqrt(second) * inverse_root + eps)
    tl.store(weights + place, weight, mask=mask)
    tl.store(firsts + place, first, mask=mask)
    tl.store(seconds + place, second, mask=mask)


@triton.jit
def _activations(E, W, start, sign, scratch, width, h, t, in_hidden, in_tokens, tokens: tl.constexpr, D: tl.constexpr):
    """scratch[h, t] = sign (start_h + sum_d W[h, d] E[t, d])."""
    sums = tl.zeros([h.shape[0], t.shape[0]], tl.float32) + start[:, None]
    for d in range(width):
        w = tl.load(W + h * D + d, mask=in_hidden, other=0.0)
        sums += w[:, None] * tl.load(E + t * D + d, mask=in_tokens, other=0.0)
    tl.store(scratch + h[:, None] * tokens + t, sign * sums, mask=in_hidden[:, None] & in_tokens)


@triton.jit
def _logits(A, N, r, output_bias, hidden, a, b, in_rows, in_columns, tokens: tl.constexpr):
    """(ROWS, COLUMNS) c_out + sum_j r_j (max(A_aj, N_bj) - N_bj)."""
    z = tl.zeros([a.shape[0], b.shape[0]], tl.float32) + output_bias
    for j in range(hidden):
        A_j = tl.load(A + j * tokens + a, mask=in_rows, other=0.0)
        N_j = tl.load(N + j * tokens + b, mask=in_columns, other=0.0)
        larger = tl.maximum(A_j[:, None], N_j[None, :], propagate_nan=tl.PropagateNan.ALL)
        z += tl.load(r + j) * (larger - N_j[None, :])
    return z


@triton.jit
def _masked_sums(g, A, N, SA, SB, hidden, a, b, in_rows, in_columns, tokens: tl.constexpr):
    """SA[j, a] = sum_b g_ab [A_aj > N_bj] and SB[j, b] = sum_a of the same."""
    for j in range(hidden):
        A_j = tl.load(A + j * tokens + a, mask=in_rows, other=0.0)
        N_j = tl.load(N + j * tokens + b, mask=in_columns, other=0.0)
        passed = tl.where(A_j[:, None] > N_j[None, :], g, 0.0)
        tl.store(SA + j * tokens + a, tl.sum(passed, 1), mask=in_rows)
        tl.store(SB + j * tokens + b, tl.sum(passed, 0), mask=in_columns)


@triton.jit
def _power(squares, model, t):
    """beta^t from beta^(2^i): a function of t alone, so that a run can stop and go on anywhere."""
    power, bits, place = tl.full([], 1.0, tl.float64), t, model * POWERS
    while bits != 0:
        power *= tl.where(bits & 1 == 1, tl.load(squares + place), 1.0)
        bits, place = bits >> 1, place + 1
    return power


@triton.jit
def _rates(t, model, lr, schedule, last_factor, weight_decay, readout_lr_scale, squares1, squares2):
    """Of update t: what first moments are multiplied by, that of the readout, the decay, and what roots are."""
    rest1, rest2 = 1 - _power(squares1, model, t + 1), 1 - _power(squares2, model, t + 1)
    lr_now = tl.load(lr + model) * tl.load(schedule + tl.minimum(t, last_factor))
    rate = lr_now.to(tl.float32) / rest1.to(tl.float32)
    readout_rate = (lr_now * readout_lr_scale).to(tl.float32) / rest1.to(tl.float32)
    decay = (1 - lr_now * tl.load(weight_decay + model)).to(tl.float32)
    return rate, readout_rate, decay, 1.0 / tl.sqrt(rest2.to(tl.float32))


@triton.jit
def _count_where(facts, in_facts):
    return tl.sum(tl.sum(tl.where(in_facts & facts, 1, 0), 1), 0)


@triton.jit
def _mean_loss(right_by, in_facts, facts: tl.constexpr):
    """Nats per fact."""
    size = tl.where(right_by < 0.0, -right_by, right_by)
    nats = tl.where(right_by > 0.0, 0.0, -right_by) + _log_of_one_plus(tl.exp(-size))
    return tl.sum(tl.sum(tl.where(in_facts, nats, 0.0), 1), 0) / facts


@triton.jit
def _through_tokens(E, first_E, second_E, S, start, count, U, readout, W_now, rate, adam, h, d, in_hidden, in_width,
                    tokens: tl.constexpr, D: tl.constexpr, TRAIN: tl.constexpr):  # fmt: skip
    """Adds S[j, t] E[t, d] to U and S[j, t] to a sum of its own, over all t, and trains E."""
    active = tl.zeros([h.shape[0]], tl.float32)
    for token in range(count):
        s = tl.load(S + h * tokens + token, mask=in_hidden, other=0.0)
        at = start + token * D + d
        U += s[:, None] * tl.load(E + at, mask=in_width, other=0.0)
        active += s
        if TRAIN:
            gradient = tl.sum((readout * s)[:, None] * W_now, 0)
            _update(at, in_width, E, first_E, second_E, gradient, rate, adam)
    return U, active


@triton.jit(do_not_specialize=["last_factor", "logs", "models", "steps", "until"])
def train(
    E1, E2, W, c, r, c_out,
    first_E1, first_E2, first_W, first_c, first_r, first_c_out,
    second_E1, second_E2, second_W, second_c, second_r, second_c_out,
    step, tables, lr, beta1, beta2, eps, weight_decay, squares1, squares2, schedule, last_factor, readout_lr_scale,
    logged_steps, logs, loss, correct, done, finished, scratch, margin,
    models, steps, until, row_count, column_count, width, hidden,
    R: tl.constexpr, C: tl.constexpr, D: tl.constexpr, H: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, HIDDEN: tl.constexpr,
    TRAIN_E1: tl.constexpr, TRAIN_E2: tl.constexpr, TRAIN_W: tl.constexpr,
    TRAIN_C: tl.constexpr, TRAIN_R: tl.constexpr, TRAIN_C_OUT: tl.constexpr, STOP: tl.constexpr,
):  # fmt: skip
    """Train this program's models on, from `done` to `until` updates of this call, or until they are solved."""
    a, b, d, h = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, WIDTH), tl.arange(0, HIDDEN)
    in_rows, in_columns, in_width, in_hidden = a < R, b < C, d < D, h < H
    in_facts, in_weights = in_rows[:, None] & in_columns, in_hidden[:, None] & in_width
    facts: tl.constexpr = float(R * C)
    tokens: tl.constexpr = R + C
    program = tl.program_id(0).to(tl.int64)
    model = program
    while model < models:
        b1, b2 = tl.load(beta1 + model), tl.load(beta2 + model)
        rest1, rest2 = (1 - b1).to(tl.float32), (1 - b2).to(tl.float32)
        b1, b2, small = b1.to(tl.float32), b2.to(tl.float32), tl.load(eps + model).to(tl.float32)
        taken, made = tl.load(step + model), tl.load(done + model)
        next_log = 0
        while tl.load(logged_steps + next_log) < made:
            next_log += 1
        go = (tl.load(finished + model) == 0) & ((made < until) | (until == steps))
        while go:
            # Adds 0, which the compiler does not know: it would keep all addresses in registers through all updates.
            here = model + tl.load(finished + model)
            rows, columns, weights, units = here * R * D, here * C * D, here * H * D, here * H
            A = scratch + (program + here - model) * 2 * tokens * H
            N, SA, SB = A + R, A + tokens * H, A + tokens * H + R
            bias = tl.load(c + units + h, mask=in_hidden, other=0.0)
            readout = tl.load(r + units + h, mask=in_hidden, other=0.0)
            _activations(E1 + rows, W + weights, bias, 1.0, A, width, h, a, in_hidden, in_rows, tokens, D)
            _activations(E2 + columns, W + weights, 0 * bias, -1.0, N, width, h, b, in_hidden, in_columns, tokens, D)
            tl.debug_barrier()
            z = _logits(A, N, r + units, tl.load(c_out + model), hidden, a, b, in_rows, in_columns, tokens)

            is_one = tl.load(tables + here * R * C + a[:, None] * C + b, mask=in_facts, other=0) != 0
            right_by = tl.where(is_one, z, -z)
            solved = False
            if STOP:
                solved = _count_where(tl.where(is_one, ~(z > margin), ~(z <= -margin)), in_facts) == 0
            if (made == tl.load(logged_steps + next_log)) | solved:
                mean, last_log = _mean_loss(right_by, in_facts, facts), next_log + 1
                if solved:
                    last_log = logs
                for i in range(next_log, last_log):
                    tl.store(loss + model * logs + i, mean)
                next_log += 1
                tl.store(correct + model, R * C - _count_where(tl.where(is_one, ~(z > 0.0), ~(z <= 0.0)), in_facts))
            if solved | (made == steps):
                tl.store(finished + model, 1)
                tl.store(step + model, taken + made)
                go = False
            else:
                error = 1.0 / (facts * (1.0 + tl.exp(right_by)))
                g = tl.where(in_facts, tl.where(is_one, -error, error), 0.0)
                rate, readout_rate, decay, inverse_root = _rates(
                    taken + made, model, lr, schedule, last_factor, weight_decay, readout_lr_scale, squares1, squares2
                )
                adam = (decay, inverse_root, b1, b2, rest1, rest2, small)
                _masked_sums(g, A, N, SA, SB, hidden, a, b, in_rows, in_columns, tokens)
                tl.debug_barrier()
                U = tl.zeros([HIDDEN, WIDTH], tl.float32)
                place = weights + h[:, None] * D + d
                W_now = tl.load(W + place, mask=in_weights, other=0.0)
                U, active = _through_tokens(E1, first_E1, second_E1, SA, rows, row_count, U, readout, W_now, rate,
                                            adam, h, d, in_hidden, in_width, tokens, D, TRAIN_E1)  # fmt: skip
                U, _ = _through_tokens(E2, first_E2, second_E2, SB, columns, column_count, U, readout, W_now, rate,
                                       adam, h, d, in_hidden, in_width, tokens, D, TRAIN_E2)  # fmt: skip
                of_readout = tl.sum(U * W_now, 1) + bias * active
                if TRAIN_W:
                    _update(place, in_weights, W, first_W, second_W, readout[:, None] * U, rate, adam)
                if TRAIN_C:
                    _update(units + h, in_hidden, c, first_c, second_c, readout * active, rate, adam)
                if TRAIN_R:
                    _update(units + h, in_hidden, r, first_r, second_r, of_readout, readout_rate, adam)
                if TRAIN_C_OUT:
                    of_output = tl.sum(tl.sum(g, 1), 0)
                    _update(model, True, c_out, first_c_out, second_c_out, of_output, readout_rate, adam)
                made += 1
                go = (made < until) | (until == steps)
            tl.debug_barrier()  # what was written is read next
        tl.store(done + model, made)
        model += tl.num_programs(0)
