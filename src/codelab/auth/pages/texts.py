"""What the pages say, in each language."""
# ruff: noqa: RUF001 - Russian has letters that look like Latin ones

from __future__ import annotations

__all__ = ("LANGUAGES", "choose_language", "say")

#: The first is for everybody who reads none of them.
LANGUAGES = ("en", "ru")

_TEXTS: dict[str, tuple[str, str]] = {
    "sign_in": ("Sign in", "Вход"),
    "sign_in_for": ("Sign in to go on to {client}", "Войдите, чтобы продолжить в {client}"),
    "username": ("User name or email", "Имя пользователя или почта"),
    "password": ("Password", "Пароль"),
    "wrong_credentials": (
        "This name and password do not fit. Nothing else is told, so that nobody can try names out.",
        "Имя и пароль не подходят. Больше ничего не сообщается, чтобы имена нельзя было подобрать.",
    ),
    "consent": ("Allow access?", "Разрешить доступ?"),
    "consent_asks": ("{client} asks to:", "{client} просит разрешения:"),
    "signed_in_as": ("You are signed in as {username}.", "Вы вошли как {username}."),
    "other_account": ("Use another account", "Войти под другим именем"),
    "goes_to": ("The answer goes to {host}.", "Ответ будет передан в {host}."),
    "goes_to_here": (
        "The answer goes to a program on this computer ({host}). Go on only if you have just started it yourself.",
        "Ответ получит программа на этом компьютере ({host}). Продолжайте, только если вы сами её запустили.",
    ),
    "goes_to_app": (
        "The answer goes to an app on this device ({host}). Go on only if you have just used it yourself.",
        "Ответ получит приложение на этом устройстве ({host}). Продолжайте, только если вы сами им пользуетесь.",
    ),
    "self_registered": (
        "This program registered itself: nobody has checked its name.",
        "Программа зарегистрировалась сама: её название никто не проверял.",
    ),
    "described_at": (
        "This program is described at {host}: nobody else has checked its name.",
        "Программа описана на {host}: её название больше никто не проверял.",
    ),
    "allow": ("Allow", "Разрешить"),
    "deny": ("Deny", "Отклонить"),
    "go_on": ("Go on", "Продолжить"),
    "device": ("Let a device in", "Подключить устройство"),
    "device_code": ("Code that the device shows", "Код, который показывает устройство"),
    "device_wrong": (
        "No device waits with this code. Codes are good for ten minutes: look at the device again.",
        "Устройства с таким кодом нет. Код действует десять минут: проверьте его на устройстве.",
    ),
    "device_throttled": (
        "Too many wrong codes. Close the browser and sign in again to go on.",
        "Слишком много неверных кодов. Закройте браузер и войдите снова.",
    ),
    "device_compare": ("Is this the code that the device shows?", "Устройство показывает этот код?"),
    "device_from": ("The device asked from {address}.", "Запрос пришёл с адреса {address}."),
    "device_warning": (
        "Go on only if it is yours and in front of you; whoever sent you a link with a code wants to use your account.",
        "Продолжайте, только если оно ваше и перед вами; тот, кто прислал ссылку с кодом, хочет войти от вашего имени.",
    ),
    "device_allowed": (
        "{client} may go on. You can close this page.",
        "{client} может продолжать. Страницу можно закрыть.",
    ),
    "device_denied": (
        "{client} was not let in. You can close this page.",
        "{client} не получает доступа. Страницу можно закрыть.",
    ),
    "error": ("This did not work", "Не получилось"),
    "error_unknown_client": (
        "The program that sent you here is not known to this server.",
        "Этот сервер не знает программу, которая вас сюда направила.",
    ),
    "error_unknown_redirect": (
        "The program that sent you here asks for the answer at an address that it is not registered with.",
        "Программа просит передать ответ по адресу, который за ней не зарегистрирован.",
    ),
    "error_unreadable": (
        "The program that sent you here made a request that cannot be read.",
        "Программа, которая вас сюда направила, составила непонятный запрос.",
    ),
    "error_forged_form": (
        "This form is no longer valid. Go back, load the page again and try once more. Cookies have to be allowed.",
        "Форма устарела. Вернитесь, обновите страницу и попробуйте ещё раз. Файлы cookie должны быть разрешены.",
    ),
    "error_other": ("The server could not do this now.", "Сейчас сервер не смог это сделать."),
    "error_details": ("For its author:", "Для её автора:"),
    "scope_openid": ("know who you are", "узнать, кто вы"),
    "scope_profile": ("see your user name", "видеть имя пользователя"),
    "scope_email": ("see your email address", "видеть адрес почты"),
    "scope_offline_access": ("stay logged in while you are away", "оставаться в системе без вас"),
    "scope_api:read": ("read your sessions", "читать ваши сессии"),
    "scope_api:write": (
        "create sessions and send messages and tool results",
        "создавать сессии, отправлять сообщения и результаты инструментов",
    ),
    "scope_approvals:decide": ("decide what agents may do", "решать, что разрешено агентам"),
    "scope_api:admin": ("administer this server", "управлять этим сервером"),
}


def say(language: str, key: str, **parts: str) -> str:
    """Say something in a language."""
    return _TEXTS[key][LANGUAGES.index(language)].format(**parts)


def choose_language(accepted: str | None) -> str:
    """Choose from ``Accept-Language`` (RFC 9110 section 12.5.4) what the reader likes best of what there is."""
    best, chosen = 0.0, LANGUAGES[0]
    for part in (accepted or "").split(","):
        tag, _, parameter = part.strip().partition(";")
        name, _, value = parameter.strip().partition("=")
        try:
            weight = float(value) if name == "q" else 1.0
        except ValueError:
            continue
        language = tag.lower().partition("-")[0]
        if language in LANGUAGES and best < weight <= 1:
            best, chosen = weight, language
    return chosen
