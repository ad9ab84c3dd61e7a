import torch

from cytoforge.networks.image_buffer import ImageBuffer


def images(*values):
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def levels(shown):
    return shown[:, 0, 0, 0].tolist()


def test_fills_then_exchanges_half_of_the_time():
    buffer = ImageBuffer(2, 2)
    stays, old_first, old_last = [0.9, 0.0], [0.1, 0.0], [0.1, 0.9]
    assert levels(buffer.exchange(images(1), torch.tensor([old_first]))) == [1]
    assert levels(buffer.exchange(images(2), torch.tensor([old_first]))) == [2]
    assert levels(buffer.exchange(images(3), torch.tensor([stays]))) == [3]
    assert levels(buffer.images) == [1, 2]
    assert levels(buffer.exchange(images(4, 5), torch.tensor([old_first, old_last]))) == [1, 2]
    assert levels(buffer.images) == [4, 5]
    assert levels(buffer.exchange(images(6, 7), torch.tensor([old_first, old_first]))) == [4, 6]


def test_without_room_it_gives_back_what_came():
    buffer = ImageBuffer(0, 2)
    assert levels(buffer.exchange(images(1, 2), torch.zeros(2, 2))) == [1, 2]


def test_its_state_is_a_state_dict_and_no_gradient_passes():
    buffer, other = ImageBuffer(2, 2), ImageBuffer(2, 2)
    new = images(3).clone().requires_grad_()
    assert not buffer.exchange(new, torch.zeros(1, 2)).requires_grad
    other.load_state_dict(buffer.state_dict())
    assert int(other.filled) == 1
    assert levels(other.images) == [3, 0]
